from __future__ import annotations

import hmac
from collections import Counter
from hashlib import sha256

from contract.events.exposures import Exposure
from contract.events.streams import ulid
from contract.experiments.assignment import snapshot_of
from contract.experiments.buckets import bucket
from contract.experiments.decision import Decision
from service.experiments.exposures import DEDUPLICATION_MS, Exposures, Outcome
from tests.support.experiment_files import NOW_MS, example

IOS = {"platform": "ios"}
SNAPSHOT = snapshot_of(example())


class Sink:
    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.events: list[bytes] = []
        self.labels: list[tuple[str, ...]] = []

    def offer(self, event: bytes, labels: tuple[str, ...] = ()) -> bool:
        if self.full:
            return False
        self.events.append(event)
        self.labels.append(labels)
        return True

    @property
    def exposures(self) -> list[Exposure]:
        return [Exposure.model_validate_json(event) for event in self.events]


class Counts(Counter[tuple[str, str]]):
    def __call__(self, experiment: str, arm: str) -> None:
        self[experiment, arm] += 1


def decision(unit: str) -> Decision:
    return SNAPSHOT.decide(unit, IOS, NOW_MS)


def outcome(**edits: object) -> Outcome:
    values: dict[str, object] = {
        "request_id": "r-1", "time_ms": NOW_MS, "status": "ok", "served_model": "pyramid_mixer",
        "served_version": "12", "answered": 20, "candidates": 200,
    }  # fmt: skip
    return Outcome(**{**values, **edits})  # type: ignore[arg-type]


def test_exposure_says_what_was_assigned_and_what_was_served() -> None:
    sink, counts = Sink(), Counts()
    exposures = Exposures(sink, on_exposure=counts)
    degraded = outcome(status="degraded", served_model="mgnm", served_version="7")
    assert exposures.record(decision("12"), degraded) == 1
    [exposure] = sink.exposures
    assert exposure.model_dump(exclude={"id"}) == {
        "v": 1, "ts": NOW_MS, "req": "r-1", "unit_type": "user_id", "unit": "12", "layer": "rank",
        "exp": "pyramid-vs-mgnm", "arm": "treatment", "reason": "split", "slot": 1880, "armb": 9292,
        "cfg": "7d0a290dc910", "exp_salt": "pyramid-vs-mgnm", "forced": 0, "model": "pyramid_mixer", "ver": "12",
        "served_model": "mgnm", "served_ver": "7", "outcome": "degraded", "k": 20, "n_cand": 200,
    }  # fmt: skip
    assert exposure.armb == bucket(exposure.exp_salt, "arm", exposure.unit)
    assert sink.labels == [("pyramid-vs-mgnm", "treatment")]
    assert counts == {("pyramid-vs-mgnm", "treatment"): 1}


def test_failed_ranking_is_an_exposure_all_the_same() -> None:
    sink = Sink()
    failed = outcome(status="error", served_model=None, served_version=None, answered=0)
    Exposures(sink, on_exposure=Counts()).record(decision("12"), failed)
    assert (sink.exposures[0].outcome, sink.exposures[0].arm, sink.exposures[0].served_model) == (
        "error",
        "treatment",
        None,
    )


def test_unit_in_no_experiment_exposes_nothing() -> None:
    sink = Sink()
    assert Exposures(sink, on_exposure=Counts()).record(decision("1"), outcome()) == 0
    assert not sink.events


def test_without_a_unit_or_a_decision_nothing_is_exposed() -> None:
    sink = Sink()
    exposures = Exposures(sink, on_exposure=Counts())
    for nothing in (SNAPSHOT.decide(None, IOS, NOW_MS), SNAPSHOT.undecided("error")):
        assert exposures.record(nothing, outcome()) == 0


def test_unit_in_two_experiments_is_exposed_in_both() -> None:
    document = example(layers__0__experiments__0__target=None)
    other = {**document["layers"][0]["experiments"][1], "key": "blend-1", "salt": "blend-1", "slots": [[0, 10000]]}
    other["arms"] = [{"key": "control", "buckets": [[0, 1]]}, {"key": "more", "buckets": [[1, 10000]]}]
    document["layers"][1]["experiments"] = [other]
    sink = Sink()
    both = snapshot_of(document).decide("12", {}, NOW_MS)
    assert Exposures(sink, on_exposure=Counts()).record(both, outcome()) == 2
    assert [(exposure.layer, exposure.exp) for exposure in sink.exposures] == [
        ("rank", "pyramid-vs-mgnm"),
        ("blend", "blend-1"),
    ]


def test_override_is_exposed_as_forced() -> None:
    sink = Sink()
    Exposures(sink, on_exposure=Counts()).record(decision("qa-0001"), outcome())
    assert (sink.exposures[0].forced, sink.exposures[0].armb) == (1, None)


def test_override_does_not_hide_the_natural_exposure_of_the_same_arm() -> None:
    sink = Sink()
    exposures = Exposures(sink, on_exposure=Counts())
    natural = decision("12")
    wish = {"rank": natural.layers[0].variant}
    exposures.record(SNAPSHOT.decide("12", IOS, NOW_MS, wish), outcome())
    exposures.record(natural, outcome())
    assert [(exposure.arm, exposure.forced) for exposure in sink.exposures] == [("treatment", 1), ("treatment", 0)]


def test_unit_is_exposed_once_an_hour_for_each_arm_and_file() -> None:
    sink = Sink()
    exposures = Exposures(sink, on_exposure=Counts())
    again = outcome(time_ms=NOW_MS + DEDUPLICATION_MS - 1)
    next_hour = outcome(time_ms=NOW_MS + DEDUPLICATION_MS)
    other_file = decision("12")._replace(digest="other")
    written = [exposures.record(*pair) for pair in (
        (decision("12"), outcome()), (decision("12"), again), (decision("28"), again),
        (other_file, again), (decision("12"), next_hour), (decision("12"), next_hour),
    )]  # fmt: skip
    assert written == [1, 0, 1, 1, 1, 0]


def test_dropped_exposure_is_not_remembered_as_written() -> None:
    sink, counts = Sink(full=True), Counts()
    exposures = Exposures(sink, on_exposure=counts)
    assert exposures.record(decision("12"), outcome()) == 0
    sink.full = False
    assert exposures.record(decision("12"), outcome()) == 1
    assert counts.total() == 1


def test_memory_of_what_was_written_is_bounded_and_forgets_the_oldest() -> None:
    exposures = Exposures(Sink(), on_exposure=Counts(), max_remembered=2)
    for unit in ("12", "28", "user-000123"):
        exposures.record(decision(unit), outcome())
    assert exposures.record(decision("user-000123"), outcome()) == 0
    assert exposures.record(decision("28"), outcome()) == 0
    assert exposures.record(decision("12"), outcome()) == 1


def test_pseudonymous_exposure_holds_no_user_id() -> None:
    sink = Sink()
    Exposures(sink, on_exposure=Counts(), pseudonym_key=b"key").record(decision("user-000123"), outcome())
    expected = "h:" + hmac.new(b"key", b"user-000123", sha256).hexdigest()[:32]
    assert sink.exposures[0].unit == expected
    assert b"user-000123" not in sink.events[0]


def test_ulids_are_distinct_and_sort_by_time() -> None:
    made = [ulid(time_ms) for time_ms in (0, 1, NOW_MS, NOW_MS + 1, 2**48 - 1)]
    assert made == sorted(made)
    assert len({ulid(NOW_MS) for _ in range(1000)}) == 1000
    assert all(len(one) == 26 and set(one) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for one in made)
    assert made[0].startswith("0" * 10)
    assert made[-1].startswith("7ZZZZZZZZZ")


def test_an_exposure_calls_a_refused_ranking_an_error() -> None:
    sink = Sink()
    Exposures(sink, on_exposure=Counts()).record(decision("12"), outcome(status="refused"))
    assert sink.exposures[0].outcome == "error"


def test_held_out_units_and_as_many_others_are_exposed_in_the_holdout() -> None:
    sink, counts = Sink(), Counts()
    exposures = Exposures(sink, on_exposure=counts, pseudonym_key=b"k")
    exposures.record(decision("255"), outcome(served_model="mgnm", served_version="7"))  # its bucket is 51
    measured = next(unit for unit in map(str, range(100_000)) if 100 <= bucket("global-2026h1", "holdout", unit) < 200)
    exposures.record(decision(measured), outcome())
    found = [one for one in sink.exposures if one.exp == "_holdout"]
    assert [(one.arm, one.reason, one.forced, one.armb, one.exp_salt) for one in found] == [
        ("held_out", "holdout", 0, None, "global-2026h1"), ("measured", "holdout", 0, None, "global-2026h1"),
    ]  # fmt: skip
    assert found[0].slot == 51
    assert all(one.unit.startswith("h:") for one in found)
    assert len([one for one in sink.exposures if one.unit == found[0].unit]) == 1  # held out of all else
    assert exposures.record(decision("255"), outcome()) == 0  # within the hour
    assert counts["_holdout", "held_out"] == 1
