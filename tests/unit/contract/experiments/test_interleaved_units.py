"""The decision for a unit whose answers are interleaved."""

from __future__ import annotations

import http_sf

from contract.experiments.assignment import ExperimentsSnapshot, snapshot_of
from contract.experiments.decision import Decision
from tests.support.experiment_files import NOW_MS, servable

E0 = "layers__0__experiments__0"
IOS = {"platform": "ios"}


def snapshot(**edits: object) -> ExperimentsSnapshot:
    return snapshot_of(servable(**{f"{E0}__kind": "interleave", **edits}))


def decided(unit: str, forced: dict[str, str] | None = None, **edits: object) -> Decision:
    return snapshot(**edits).decide(unit, IOS, NOW_MS, forced)


def test_both_units_of_an_ab_have_one_arm_and_both_models_the_control_s_first() -> None:
    for unit in ("12", "28"):  # treatment and control of the vectors
        decision = decided(unit)
        rank = decision.layers[0]
        assert (rank.experiment, rank.arm, rank.reason, rank.arm_bucket, rank.forced) == (
            "pyramid-vs-mgnm", "interleaved", "split", None, False,
        )  # fmt: skip
        assert decision.pair == rank.pair
        assert [(arm.key, arm.parameters) for arm in rank.pair or ()] == [
            ("control", {"model": "mgnm", "version": "7"}),
            ("treatment", {"model": "pyramid_mixer", "version": "12"}),
        ]
        assert decision.parameters["model"] == "mgnm"
        assert decision.assigned == (rank,)


def test_the_control_is_first_wherever_it_is_in_the_file() -> None:
    arms = servable()["layers"][0]["experiments"][0]["arms"][::-1]
    pair = decided("12", **{f"{E0}__arms": arms}).pair
    assert [arm.key for arm in pair or ()] == ["control", "treatment"]


def test_the_header_names_the_experiment_and_has_no_bucket() -> None:
    header = decided("12").header()
    assert header == "rank=pyramid-vs-mgnm:interleaved;r=split, blend=none;r=unallocated"
    member, parameters = http_sf.parse(header.encode(), tltype="dictionary")["rank"]
    assert (str(member), str(parameters["r"])) == ("pyramid-vs-mgnm:interleaved", "split")


def test_slots_target_dates_holdout_and_status_decide_as_for_other_kinds() -> None:
    interleaved, usual = snapshot(), snapshot_of(servable())
    for number in range(3_000):
        ours, theirs = (one.decide(str(number), IOS, NOW_MS).layers[0] for one in (interleaved, usual))
        assert (ours.experiment, ours.reason, ours.slot) == (theirs.experiment, theirs.reason, theirs.slot)
        assert (ours.pair is not None) == (ours.experiment == "pyramid-vs-mgnm" and not ours.forced)
    assert interleaved.decide("12", {"platform": "web"}, NOW_MS).layers[0].reason == "not_targeted"
    assert interleaved.decide("12", IOS, 0).pair is None


def test_an_override_gives_one_arm_s_model_and_no_pair() -> None:
    decision = decided("12", {"rank": "pyramid-vs-mgnm:treatment"})
    assert (decision.pair, decision.layers[0].arm, decision.layers[0].forced) == (None, "treatment", True)
    assert decision.parameters["model"] == "pyramid_mixer"


def test_no_decision_of_another_kind_has_a_pair() -> None:
    assert snapshot_of(servable()).decide("12", IOS, NOW_MS).pair is None
