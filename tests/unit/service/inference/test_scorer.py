"""A batch of requests through real graphs: the right numbers, each user encoded once, and only bad rows fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from structlog.testing import capture_logs

from contract.behaviours.records import Records
from service.bundles.bundle import Bundle, load_bundle
from service.errors import InferenceFailed
from service.inference.engine import EngineError, OnnxEngine
from service.inference.inputs import RankRow
from service.inference.scorer import Inference, NothingScored, ScoredRow
from service.inference.state_cache import StateCache
from tests.support.builders import TinyModel, behaviours

pytestmark = pytest.mark.onnx


class Watched:
    """The real engine, and what was asked of it; fails while told to."""

    def __init__(self, bundle: Bundle) -> None:
        self._engine = OnnxEngine(bundle, "cpu", threads=1)
        self.provider = self._engine.provider
        self.encoded: list[int] = []
        self.scored: list[int] = []
        self.failing: list[EngineError] = []  # errors of the next runs of `score`
        self.short = False

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.encoded.append(len(inputs["items"]))
        return self._engine.encode(inputs)

    def score(
        self,
        state: Mapping[str, NDArray[Any]],
        candidates: NDArray[np.int64],
        rows: NDArray[np.int64],
        context: Mapping[str, NDArray[Any]],
    ) -> dict[str, NDArray[Any]]:
        self.scored.append(len(candidates))
        if self.failing:
            raise self.failing.pop(0)
        scored = self._engine.score(state, candidates, rows, context)
        return {name: output[:-1] for name, output in scored.items()} if self.short else scored

    def close(self) -> None:
        self._engine.close()


class Rig:
    """A model, its engine, and the inference over them."""

    def __init__(self, directory: Path, model: TinyModel, cache: int = 100) -> None:
        self.model = model
        self.bundle = load_bundle(model.write(directory), max_bytes=10_000_000)
        self.engine = Watched(self.bundle)
        self.states = StateCache(cache)
        self.failures: list[str] = []
        self.not_finite: list[tuple[str, int]] = []
        self.inference = Inference(self.bundle, self.engine, self.states, self.failures.append, self._note_not_finite)

    def _note_not_finite(self, name: str, candidates: int) -> None:
        self.not_finite.append((name, candidates))

    def run(self, *rows: RankRow) -> list[ScoredRow | Exception]:
        return self.inference.run(rows)

    def scores(self, *rows: RankRow) -> list[list[float]]:
        return [scored(result).scores.tolist() for result in self.run(*rows)]


def scored(result: ScoredRow | Exception) -> ScoredRow:
    assert isinstance(result, ScoredRow), result
    return result


def row(history: Sequence[int | str], candidates: Sequence[int] = (1, 2, 3), **fields: Any) -> RankRow:
    ids = [item if isinstance(item, str) else f"i{item}" for item in history]
    given_fields = {"user_id": "u1", "request_time_ms": 0, **fields}
    records = given_fields.pop("records", behaviours(ids))
    return RankRow(records=records, candidates=np.array(candidates, dtype=np.int64), **given_fields)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, TinyModel())


def test_ragged_rows_get_the_scores_that_the_model_gives_each_alone(rig: Rig) -> None:
    rows = [row([4, 5], [1]), row([], [7, 8, 9]), row([1, 2, 3, 4, 5, 6, 7], range(1, 21)), row([9], [])]
    expected = [
        rig.model.expected([4, 5], [1]), rig.model.expected([], [7, 8, 9]),
        rig.model.expected([3, 4, 5, 6, 7], range(1, 21)), np.zeros(0),
    ]  # fmt: skip
    results = rig.scores(*rows)
    assert [len(result) for result in results] == [1, 3, 20, 0]
    for result, numbers in zip(results, expected, strict=True):
        assert np.allclose(result, numbers, atol=1e-6)
    assert rig.engine.scored == [24]


def test_behaviours_are_read_in_time_order_whatever_order_they_are_stored_in(rig: Rig) -> None:
    late = behaviours(["i9", "i2", "i1", "i3", "i4", "i5"], times_ms=[1, 20, 10, 30, 40, 50])
    [result] = rig.run(row([], [1, 2], records=late))
    assert np.allclose(scored(result).scores, rig.model.expected([1, 2, 3, 4, 5], [1, 2]), atol=1e-6)
    assert scored(result).truncated == 1


def test_of_one_time_the_later_arrival_is_the_newer(rig: Rig) -> None:
    same = behaviours(["i9", "i1", "i2", "i3", "i4", "i5"], times_ms=[7] * 6)
    [result] = rig.run(row([], [1, 2], records=same))
    assert np.allclose(scored(result).scores, rig.model.expected([1, 2, 3, 4, 5], [1, 2]), atol=1e-6)


def test_unknown_items_and_other_actions_are_passed_over_and_unknown_ones_counted(rig: Rig) -> None:
    shown = behaviours(["i9"], start_ms=5, action="impression")
    records = np.concatenate([behaviours(["new", "i1", "newer", "i2"]), shown])
    [result] = rig.run(row([], [3], records=records))
    assert (scored(result).used, scored(result).unknown, scored(result).truncated) == (2, 2, 0)
    assert np.allclose(scored(result).scores, rig.model.expected([1, 2], [3]), atol=1e-6)


def test_a_state_is_computed_once_and_then_found(rig: Rig) -> None:
    first, again = rig.run(row([1, 2])), rig.run(row([1, 2], [4, 5]))
    assert [scored(first[0]).state_hit, scored(again[0]).state_hit] == [False, True]
    assert rig.engine.encoded == [1]
    assert np.allclose(scored(again[0]).scores, rig.model.expected([1, 2], [4, 5]), atol=1e-6)


def test_identical_rows_of_a_batch_are_encoded_once(rig: Rig) -> None:
    results = rig.scores(row([1, 2]), row([3]), row([1, 2], [5]), row([1, 2]))
    assert rig.engine.encoded == [2]
    assert np.allclose(results[2], rig.model.expected([1, 2], [5]), atol=1e-6)
    assert results[0] == results[3]


def test_cached_and_new_states_mix_in_one_batch(rig: Rig) -> None:
    rig.run(row([1]), row([3]))
    histories = [[2], [1], [4], [3]]
    results = rig.run(*(row(history, [7, 8]) for history in histories))
    assert [scored(result).state_hit for result in results] == [False, True, False, True]
    assert rig.engine.encoded == [2, 2]
    for history, result in zip(histories, results, strict=True):
        assert np.allclose(scored(result).scores, rig.model.expected(history, [7, 8]), atol=1e-6)


def test_one_new_behaviour_makes_another_state(rig: Rig) -> None:
    rig.run(row([1, 2]))
    [result] = rig.run(row([1, 2, 3], [5]))
    assert not scored(result).state_hit
    assert np.allclose(scored(result).scores, rig.model.expected([1, 2, 3], [5]), atol=1e-6)


def test_a_cached_state_does_not_hold_the_batch_it_came_from(rig: Rig) -> None:
    rig.run(*(row([item]) for item in range(1, 9)))
    assert all(array.base is None for state in rig.states.find(list(rig.states._states)) for array in state or ())


def test_the_user_and_the_time_are_part_of_the_input_and_of_the_key(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TinyModel(users=3, reads_time=True))
    rows = [
        row([1], [2], user_id="u2", request_time_ms=5_000),
        row([1], [2], user_id="stranger", request_time_ms=7_000),
    ]
    results = rig.scores(*rows)
    assert np.allclose(results[0], rig.model.expected([1], [2], user=2, time_ms=5_000), atol=1e-3)
    assert np.allclose(results[1], rig.model.expected([1], [2], user=0, time_ms=7_000), atol=1e-3)
    assert rig.engine.encoded == [2]


def test_a_time_beyond_64_bits_is_clipped_and_not_an_error(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TinyModel(reads_time=True))
    results = rig.run(row([1], request_time_ms=10**30), row([1], request_time_ms=-(10**30)))
    assert all(isinstance(result, ScoredRow) for result in results)


def test_rows_with_and_without_explanation_share_a_batch(rig: Rig) -> None:
    results = rig.run(row([1, 2], [4, 5, 6], explain=True), row([3], [1]), row([3], [9, 8], explain=True))
    assert rig.engine.scored == [6]
    assert scored(results[0]).explanation["level"].tolist() == [1, 2, 0]
    assert scored(results[2]).explanation["level"].tolist() == [0, 2]
    assert scored(results[0]).explanation["period_weights"].shape == (3,)
    assert scored(results[1]).explanation == {}


def test_a_cached_state_still_explains(rig: Rig) -> None:
    [first], [again] = rig.run(row([1, 2], explain=True)), rig.run(row([1, 2], explain=True))
    weights = [scored(result).explanation["period_weights"].tolist() for result in (first, again)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("index", [0, -1, 21, 2**62, -(2**62)])
def test_a_candidate_out_of_range_fails_its_row_before_anything_runs(rig: Rig, index: int) -> None:
    results = rig.run(row([1], [1, 2]), row([2], [3, index]), row([3], [4]))
    assert isinstance(results[1], InferenceFailed)
    assert np.allclose(scored(results[0]).scores, rig.model.expected([1], [1, 2]), atol=1e-6)
    assert np.allclose(scored(results[2]).scores, rig.model.expected([3], [4]), atol=1e-6)
    assert rig.failures == []


def test_a_candidate_without_a_finite_score_is_left_out_and_counted(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TinyModel(nan_candidate=7))
    results = rig.run(row([1], [1, 7, 2], explain=True), row([2], [3, 4]), row([3], [7, 5]))
    first = scored(results[0])
    assert first.finite is not None
    assert first.finite.tolist() == [True, False, True]
    assert np.allclose(first.scores, rig.model.expected([1], [1, 2]), atol=1e-6)
    assert first.explanation["level"].tolist() == [1, 2]
    assert scored(results[1]).finite is None
    assert np.allclose(scored(results[1]).scores, rig.model.expected([2], [3, 4]), atol=1e-6)
    assert rig.not_finite == [("tiny@1", 2)]
    assert len(rig.states) == 3


def test_a_history_that_leaves_no_score_a_number_fails_its_row_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TinyModel(nan_item=7))
    results = rig.run(row([7, 1], [1, 2]), row([2], [3, 4]))
    assert isinstance(results[0], NothingScored)
    assert np.allclose(scored(results[1]).scores, rig.model.expected([2], [3, 4]), atol=1e-6)
    assert len(rig.states) == 1  # the state that is not a number is not kept


def test_scores_that_are_not_numbers_are_logged_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TinyModel(nan_candidate=7))
    with capture_logs() as lines:
        for _ in range(3):
            rig.run(row([1], [1, 7]))
    assert [line["event"] for line in lines] == ["scores_not_finite"]
    assert len(rig.not_finite) == 3


def test_a_run_that_was_ended_is_not_tried_again_for_its_halves(rig: Rig) -> None:
    rig.engine.failing = [EngineError("ended", was_ended=True)]
    results = rig.run(row([1]), row([2]))
    assert all(isinstance(result, InferenceFailed) for result in results)
    assert rig.engine.scored == [6]


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_candidate_that_breaks_the_graph_fails_its_row_alone(tmp_path: Path, place: int) -> None:
    rig = Rig(tmp_path, TinyModel(poison_candidate=9))
    rows = [row([item], [1, 2]) for item in range(1, 9)]
    rows[place] = row([place + 1], [1, 9])
    results = rig.run(*rows)
    assert [isinstance(result, InferenceFailed) for result in results] == [other == place for other in range(8)]
    alone = Rig(tmp_path / "alone", TinyModel(poison_candidate=9))
    for other in set(range(8)) - {place}:
        assert np.allclose(scored(results[other]).scores, alone.scores(rows[other])[0], atol=1e-6)
    assert len(rig.engine.scored) == 7  # 8 rows, then halves: 4, 4, 2, 2, 1, 1


def test_a_history_that_breaks_the_graph_fails_its_row_alone(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TinyModel(poison_item=8))
    results = rig.run(row([1]), row([8, 1]), row([2]), row([3, 8]))
    assert [isinstance(result, InferenceFailed) for result in results] == [False, True, False, True]
    assert rig.failures
    assert set(rig.failures) == {"tiny@1"}


def test_where_every_row_is_bad_the_retries_are_bounded(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TinyModel(poison_candidate=9))
    results = rig.run(*(row([item], [9]) for item in range(1, 17)))
    assert all(isinstance(result, InferenceFailed) for result in results)
    assert len(rig.engine.scored) == 2 * 16 - 1


def test_a_fault_that_passes_is_retried_and_nobody_notices(rig: Rig) -> None:
    rig.engine.failing = [EngineError("out of memory")]
    results = rig.scores(*(row([item], [5]) for item in range(1, 5)))
    for item, result in enumerate(results, start=1):
        assert np.allclose(result, rig.model.expected([item], [5]), atol=1e-6)
    assert rig.failures == ["tiny@1"]


def test_a_fault_that_no_run_can_survive_is_not_retried(rig: Rig) -> None:
    rig.engine.failing = [EngineError("illegal memory access", fatal=True)]
    results = rig.run(row([1]), row([2]))
    assert all(isinstance(result, InferenceFailed) for result in results)
    assert isinstance(results[0].__cause__ if isinstance(results[0], Exception) else None, EngineError)
    assert rig.engine.scored == [6]


def test_a_graph_that_answers_fewer_than_asked_is_a_fault(rig: Rig) -> None:
    rig.engine.short = True
    [result] = rig.run(row([1]))
    assert isinstance(result, InferenceFailed)


def test_nothing_is_a_batch_too(rig: Rig) -> None:
    assert rig.run() == []


def test_rows_without_candidates_do_not_bother_the_score_graph(rig: Rig) -> None:
    [result] = rig.run(row([1, 2], [], explain=True))
    assert scored(result).scores.shape == (0,)
    assert scored(result).explanation["level"].shape == (0,)
    assert rig.engine.scored == []


HISTORY = st.lists(st.integers(1, 25), max_size=12)
ROWS = st.lists(st.tuples(HISTORY, st.lists(st.integers(1, 20), max_size=6)), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(tmp_path_factory.mktemp("shared"), TinyModel(poison_candidate=13), cache=4)


@given(rows=ROWS)
def test_whoever_shares_the_batch_the_scores_are_one_s_own(
    shared: Rig, rows: list[tuple[list[int], list[int]]]
) -> None:
    results = shared.run(*(row(history, candidates) for history, candidates in rows))
    for (history, candidates), result in zip(rows, results, strict=True):
        if 13 in candidates:
            assert isinstance(result, InferenceFailed)
            continue
        known = [item for item in history if item <= 20]  # i21 to i25 are not items of the model
        assert np.allclose(scored(result).scores, shared.model.expected(known, candidates), atol=1e-5)
        assert scored(result).used + scored(result).truncated + scored(result).unknown == len(history)


def test_records_of_no_behaviour_at_all_are_a_cold_start(rig: Rig) -> None:
    empty: Records = behaviours([])
    assert np.allclose(rig.scores(row([], [1, 2], records=empty))[0], rig.model.expected([], [1, 2]), atol=1e-6)
