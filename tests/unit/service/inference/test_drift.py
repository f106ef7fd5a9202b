"""Scores and inputs of a bundle are counted by bucket, and compared with its golden rows and with earlier traffic."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from math import log
from pathlib import Path

import numpy as np
import pytest

from contract.bundle import manifest as names
from contract.bundle.reference import AGES, LENGTHS, format_reference
from service.bundles.bundle import Bundle, load_bundle
from service.inference import drift as drift_module
from service.inference.drift import Drift
from service.inference.inputs import RankRow
from service.inference.scorer import ScoredRow
from service.inference.spreads import spreads_of, stability_index
from service.metrics import Metrics
from tests.support.builders import TinyModel, behaviours
from tests.support.deployments import NEW, OLD, rig_of, score, settings_of
from tests.support.references import reference_of
from tests.support.waiting import until

REQUEST_MS = 1_700_000_000_000
DAY = 86_400


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(TinyModel().write(tmp_path_factory.mktemp("drift")), max_bytes=10_000_000)


def note(
    drift: Drift, scores: Sequence[float], used: int = 3, age: int | None = DAY, unknown: int = 0, times: int = 1
) -> None:
    """Note the same ranking so many times, one by one; `unknown` candidates and as many behaviours are not known."""
    row, result = ranking(scores, used, age, unknown)
    for _ in range(times):
        drift.note([row], [result])


def ranking(
    scores: Sequence[float], used: int = 3, age: int | None = DAY, unknown: int = 0
) -> tuple[RankRow, ScoredRow]:
    candidates = np.arange(1, len(scores) + 1)
    row = RankRow("u", behaviours([]), candidates, REQUEST_MS, unknown=unknown)
    newest = None if age is None else REQUEST_MS - age * 1000
    result = ScoredRow(
        np.array(scores, dtype=np.float32), None, {}, False, used, 0, unknown, 2, 0, 0.0, 0.0, newest_ms=newest
    )
    return row, result


def of(drift: Drift, name: str) -> list[float]:
    """Return the counts of a quantity, bucket by bucket."""
    return [count for (of, _), count in drift.observed().items() if of == name]


def test_buckets_are_counted_as_a_slow_count_would(bundle: Bundle) -> None:
    rng = np.random.default_rng(3)
    drift, edges = Drift(bundle), spreads_of(bundle)[0].edges.tolist()
    expected = {"score": Counter[int](), "length": Counter[int](), "age": Counter[int]()}
    for _ in range(200):
        scores = [*rng.normal(0.5, 1.0, 7).astype(np.float32).tolist(), edges[0]]  # an edge is in its own bucket
        used, age = int(rng.integers(0, 600)), int(rng.integers(0, 100 * DAY))
        note(drift, scores, used, age)
        expected["score"].update(bisect_left(edges, score) for score in scores)
        expected["length"][bisect_left(LENGTHS, used)] += 1
        expected["age"][bisect_left(AGES, age)] += 1
    for name, counter in expected.items():
        found = of(drift, name)
        assert found == [counter[place] for place in range(len(found))]
    assert sum(of(drift, "score")) == 1600


def test_a_large_batch_is_counted_without_bias_from_a_sample_of_its_rankings(bundle: Bundle) -> None:
    rankings = [ranking([place / 10], place, place * 3_600, unknown=place % 3) for place in range(38)]
    rows, results = zip(*rankings, strict=True)
    step = -(-len(rows) // drift_module.ROWS)
    exact = Drift(bundle)
    for row, result in rankings:
        exact.note([row], [result])
    found = {"observed": Counter[tuple[str, ...]](), "items": Counter[tuple[str, ...]]()}
    for start in range(step):  # each is as likely as the others
        drift = Drift(bundle, draw=lambda: (start + 0.5) / step)  # noqa: B023 - called in this round
        drift.note(rows, results)
        assert len(drift._pending) <= drift_module.ROWS
        found["observed"].update(drift.observed())
        found["items"].update(drift.items())
    assert found["observed"] == {labels: step * count for labels, count in exact.observed().items()}
    assert found["items"] == {labels: step * count for labels, count in exact.items().items()}


def test_a_long_list_is_counted_without_bias_from_a_sample_of_its_scores(bundle: Bundle) -> None:
    edges = spreads_of(bundle)[0].edges.tolist()
    row, result = ranking(np.random.default_rng(5).normal(0.5, 1.0, 200).tolist())
    every = -(-200 // drift_module.SCORES)
    found = np.zeros(len(edges) + 1)
    for start in range(every):
        drift = Drift(bundle, draw=lambda: (start + 0.5) / every)  # noqa: B023 - called in this round
        drift.note([row], [result])
        found += of(drift, "score")
    expected = Counter(bisect_left(edges, score) for score in result.scores.tolist())
    assert found.tolist() == [every * expected[place] for place in range(len(edges) + 1)]


def test_many_rankings_are_counted_from_as_many_as_in_a_second_with_few(bundle: Bundle) -> None:
    clock, rng = Clock(), np.random.default_rng(7)
    drift = Drift(bundle, clock, draw=rng.random)
    row, result = ranking([0.5])
    for number in range(10_000):  # 1,000 a second
        drift.note([row], [result])
        clock.seconds += 0.001
        # The load of the first second is not known in advance.
        assert number >= 1_000 or len(drift._pending) + drift._counts[-2] == number + 1
    noted = len(drift._pending) + drift._counts[-2] - 1_000
    assert noted == pytest.approx(9 * drift_module.RATE, rel=0.1)
    counted = sum(of(drift, "length"))
    assert counted == pytest.approx(10_000, rel=0.1)
    clock.seconds += 60
    for _ in range(50):  # few again: all are counted
        drift.note([row], [result])
        clock.seconds += 0.1
    assert sum(of(drift, "length")) == counted + 50


def test_an_index_needs_noted_rankings_however_many_they_stand_for(bundle: Bundle) -> None:
    drift = Drift(bundle)
    row, result = ranking([0.5] * 50)
    for _ in range(10):
        drift.note([row] * 100, [result] * 100)
    assert sum(of(drift, "length")) == 1_000
    assert drift.indices() == {}


def test_items_are_counted_by_whether_the_bundle_knows_them(bundle: Bundle) -> None:
    drift = Drift(bundle)
    note(drift, [0.5, 1.0, 1.5], used=4, unknown=7)  # two more behaviours are known, but too old
    assert drift.items() == {
        ("candidate", "yes"): 3,
        ("candidate", "no"): 7,
        ("behaviour", "yes"): 6,
        ("behaviour", "no"): 7,
    }


def test_rows_that_failed_and_users_without_a_history_have_no_age(bundle: Bundle) -> None:
    drift = Drift(bundle)
    note(drift, [0.5], used=0, age=None)
    drift.note([RankRow("u", behaviours([]), np.array([1]), REQUEST_MS)], [ValueError()])
    assert (sum(of(drift, "age")), sum(of(drift, "length")), sum(of(drift, "score"))) == (0, 1, 1)
    note(drift, [0.5], age=-5)  # a behaviour that is newer than the request: its clock is ahead
    assert of(drift, "age")[0] == 1


def test_reference_is_the_share_of_the_golden_rows(bundle: Bundle) -> None:
    reference = Drift(bundle).reference()
    golden = bundle.golden["scores"].tolist()
    edges = spreads_of(bundle)[0].edges.tolist()
    found = [share for (of, _), share in reference.items() if of == "score"]
    counts = Counter(bisect_left(edges, score) for score in golden)
    assert found == pytest.approx([counts[place] / len(golden) for place in range(len(edges) + 1)])
    lengths = (bundle.golden["encode.items"] > 0).sum(axis=1).tolist()
    assert reference["length", "0"] == pytest.approx(lengths.count(0) / len(lengths))
    assert not [labels for labels in reference if labels[0] == "age"]


def test_the_record_of_validation_is_the_reference_of_a_bundle_that_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_module, "LEAST_RECENT", 10)
    directory = TinyModel().write(tmp_path)
    (directory / names.REFERENCE).write_bytes(format_reference(reference_of()))
    TinyModel().seal(directory)
    drift = Drift(load_bundle(directory, max_bytes=10_000_000))
    shares = drift.reference()
    assert [share for (of, _), share in shares.items() if of == "score"] == [0.1, 0.4, 0.4, 0.1]
    assert (shares["length", "0"], shares["length", "+Inf"], shares["age", "86400"]) == (0.1, 0.4, 0.5)
    assert drift.unknown() == {("candidate",): 0.2}
    for used, times in ((0, 1), (5, 2), (20, 3), (21, 4)):  # the shares of the record
        note(drift, [-0.5] + [0.1] * 4 + [0.7] * 4 + [0.8], used=used, age=0, times=times)
    found = drift.indices()
    assert found.keys() == {(name, "validation") for name in ("score", "length", "age")}
    assert (found["score", "validation"], found["length", "validation"]) == (0, 0)
    assert found["age", "validation"] == pytest.approx(stability_index(np.array([45, 45, 0]), np.array([10, 0, 0]), 10))


def test_equal_golden_scores_make_fewer_buckets_with_labels_of_their_own(bundle: Bundle) -> None:
    golden = {**bundle.golden, "scores": np.array([1, 1, 1, 1, 1, 1, 2, 2], dtype=np.float32)}
    spread = spreads_of(Bundle(**{**vars(bundle), "golden": golden}))[0]
    assert spread.labels == ["1.0", "2.0", "+Inf"]
    assert spread.expected is not None
    assert spread.expected.tolist() == [6, 2, 0]


def test_stability_index_is_the_one_by_hand() -> None:
    expected = (0.9 - 0.4) * log(0.9 / 0.4) + (0.1 - 0.6) * log(0.1 / 0.6)
    assert expected == pytest.approx(1.30134, abs=1e-5)
    assert stability_index(np.array([4, 6]), np.array([90, 10]), 10) == pytest.approx(expected)
    # An empty bucket counts as half an observation of the smaller sample: 0.5 of 5.
    expected = (1.0 - 0.6) * log(1.0 / 0.6) + (0.1 - 0.4) * log(0.1 / 0.4)
    assert stability_index(np.array([3, 2]), np.array([70, 0]), 5) == pytest.approx(expected)


@pytest.mark.parametrize("counts", [[4, 6], [0, 7], [1, 1]])
def test_stability_index_of_equal_shares_is_0_for_samples_of_any_size(counts: list[int]) -> None:
    assert stability_index(np.array(counts), np.array(counts) * 1_000, sum(counts)) == pytest.approx(0, abs=1e-12)


def test_an_index_needs_enough_rankings(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_module, "LEAST_RECENT", 10)
    drift = Drift(bundle)
    note(drift, [0.5] * 50, times=9)
    assert drift.indices() == {}
    note(drift, [0.5] * 50, age=None)
    assert drift.indices().keys() == {("score", "golden"), ("length", "golden")}  # 9 ages are too few


def test_the_window_slides_and_what_left_it_is_the_earlier_reference(bundle: Bundle) -> None:
    clock = Clock()
    drift = Drift(bundle, clock)
    golden = bundle.golden["scores"].tolist()
    note(drift, golden, times=1_000)
    assert drift.indices()["score", "golden"] < 0.01
    assert ("score", "earlier") not in drift.indices()
    clock.seconds += 599
    assert ("score", "golden") in drift.indices()
    clock.seconds += 1
    assert drift.indices() == {}  # nothing in the last 10 minutes
    note(drift, [max(golden) + 1], used=1, age=0, times=100)
    shifted = drift.indices()
    assert all(shifted[name, "earlier"] > 1 for name in ("score", "length", "age"))
    assert shifted["score", "golden"] > 1
    clock.seconds += 600
    note(drift, golden, times=100)
    assert drift.indices()["score", "golden"] < 0.01
    assert drift.indices()["score", "earlier"] < 0.1
    assert sum(of(drift, "length")) == 1_200  # counters never fall


def test_steady_traffic_has_an_index_near_0_over_hours_and_few_snapshots(bundle: Bundle) -> None:
    clock, drift = Clock(), None
    drift = Drift(bundle, clock)
    golden = bundle.golden["scores"].tolist()
    for _ in range(120):
        note(drift, golden, times=64)
        clock.seconds += 30
    assert all(drift.indices()[name, "earlier"] < 0.001 for name in ("score", "length", "age"))
    assert len(drift._snapshots) <= 11


@pytest.mark.anyio
@pytest.mark.onnx
async def test_a_served_bundle_shows_its_drift_until_it_is_released(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(), TinyModel(version="2")) as rig:
        await rig.deployments.prepare(frozenset({OLD, NEW}))
        await score(rig.get(OLD), 1, 2, 3)
        assert 'ranker_drift_items_total{bundle="tiny@1",kind="candidate",known="yes"} 3.0' in rig.shown("ranker_drift")
        assert rig.shown('ranker_drift_reference_share{bundle="tiny@2"')
        await rig.deployments.prepare(frozenset({NEW}))
        await until(lambda: not [line for line in rig.shown("ranker_drift") if "tiny@1" in line])
        assert rig.shown('ranker_drift_reference_share{bundle="tiny@2"')


@pytest.mark.anyio
@pytest.mark.onnx
async def test_nothing_is_counted_where_drift_is_off(tmp_path: Path) -> None:
    async with rig_of(tmp_path, TinyModel(), settings=settings_of(inference={"drift": False})) as rig:
        await rig.deployments.prepare(frozenset({OLD}))
        await score(rig.get(OLD))
        assert [line for line in rig.shown("ranker_drift") if not line.startswith("#")] == []


def test_a_bundle_loaded_again_under_the_same_name_is_not_removed_with_the_one_before(bundle: Bundle) -> None:
    metrics, before, after = Metrics(), Drift(bundle), Drift(bundle)
    metrics.drift_begins("tiny@1", before)
    metrics.drift_begins("tiny@1", after)
    metrics.drift_ends("tiny@1", before)
    assert b'ranker_drift_reference_share{bundle="tiny@1"' in metrics.render()
    metrics.drift_ends("tiny@1", after)
    assert b"tiny@1" not in metrics.render()


def test_the_largest_index_of_the_processes_is_shown(bundle: Bundle) -> None:
    one, other = Metrics(), Metrics()
    for metrics, used in ((one, 0), (other, 500)):
        drift = Drift(bundle)
        note(drift, [0.5], used=used, times=100)
        metrics.drift_begins("tiny@1", drift)
    name = 'ranker_drift_psi{bundle="tiny@1",of="length",reference="golden"} '
    values = [float(text.decode().split(name)[1].split()[0]) for text in (one.render(), other.render())]
    merged = one.render([other.dump()]).decode()
    assert float(merged.split(name)[1].split()[0]) == max(values) > min(values)
    assert 'ranker_drift_items_total{bundle="tiny@1",kind="candidate",known="yes"} 200.0' in merged
