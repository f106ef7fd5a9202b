from __future__ import annotations

import numpy as np
import pytest

from contract.bundle.tensors import SequenceSpec
from training.data.prepare import Prepared
from training.recipe import TrainingRecipe, parse_recipe
from training.rows.loader import Loader, dataset_facts
from training.rows.negatives import uniform_negatives
from training.rows.split import leave_last_out

SPEC = SequenceSpec(length=7, columns=("items", "times", "plays"), row_inputs=("user", "request_time"))


@pytest.fixture
def loader(prepared: Prepared) -> Loader:
    return Loader(prepared, SPEC, leave_last_out(prepared).train)


def _slow(prepared: Prepared, length: int) -> list[dict[str, object]]:
    """The training rows one by one, as the definition has them."""
    rows: list[dict[str, object]] = []
    for user, (start, stop) in enumerate(zip(prepared.user_starts[:-1], prepared.user_starts[1:], strict=True)):
        for target in range(start + 1, stop - 2):
            row: dict[str, object] = {"user": user + 1, "request_time": prepared.columns["times_ms"][target]}
            for name, source in (("items", "items"), ("times", "times_ms"), ("plays", "plays")):
                history = prepared.columns[source][start:target].tolist()[-length:]
                row[name] = [0] * (length - len(history)) + history
            row["target"] = prepared.columns["items"][target]
            rows.append(row)
    return rows


def test_prefix_rows_equal_those_of_a_slow_loop(prepared: Prepared, loader: Loader) -> None:
    slow = _slow(prepared, SPEC.length)
    chosen = np.arange(len(loader))
    arrays = loader.inputs(chosen)
    assert tuple(arrays) == SPEC.names
    for name, array in arrays.items():
        assert array.dtype == np.int64
        assert array.tolist() == [row[name] for row in slow]
    assert loader.targets(chosen).tolist() == [row["target"] for row in slow]


def test_batches_are_the_rows_in_the_order_given(loader: Loader) -> None:
    order = np.random.default_rng(0).permutation(len(loader))[:50]
    batches = list(loader.training_batches(np.random.default_rng(0), order, TrainingRecipe(batch=16)))
    assert [len(batch.targets) for batch in batches] == [16, 16, 16, 2]
    whole = loader.inputs(order)
    for name, array in whole.items():
        assert np.concatenate([batch.inputs[name].numpy() for batch in batches]).tolist() == array.tolist()
    assert all(batch.negatives is None for batch in batches)


@pytest.mark.parametrize(("rows", "sizes"), [(33, [16, 17]), (32, [16, 16]), (17, [17]), (2, [2]), (1, [1])])
def test_a_last_row_alone_joins_the_batch_before(loader: Loader, rows: int, sizes: list[int]) -> None:
    batches = loader.training_batches(np.random.default_rng(0), np.arange(rows), TrainingRecipe(batch=16))
    assert [len(batch.targets) for batch in batches] == sizes


def test_an_epoch_visits_every_row_once(loader: Loader) -> None:
    order = loader.order(np.random.default_rng(0), len(loader), balanced=False)
    assert sorted(order.tolist()) == list(range(len(loader)))
    longer = loader.order(np.random.default_rng(0), 2 * len(loader), balanced=False)
    assert np.bincount(longer).tolist() == [2] * len(loader)


def test_balanced_rows_weigh_each_user_by_the_root_of_his_rows(loader: Loader) -> None:
    by_user = np.bincount(loader.users(), weights=loader.row_weights())
    roots = np.sqrt(np.bincount(loader.users()))
    np.testing.assert_allclose(by_user, roots / roots.sum())


def test_negatives_are_neither_the_target_nor_of_the_history(prepared: Prepared, loader: Loader) -> None:
    order = np.arange(len(loader))
    for batch in loader.training_batches(np.random.default_rng(0), order, TrainingRecipe(batch=64, negatives=30)):
        assert batch.negatives is not None
        negatives, history = batch.negatives.numpy(), batch.inputs["items"].numpy()
        assert negatives.shape == (len(batch.targets), 30)
        assert negatives.min() >= 1
        assert negatives.max() <= len(prepared.items)
        assert not (negatives == batch.targets.numpy()[:, None]).any()
        assert not (negatives[:, :, None] == history[:, None, :]).any()


def test_negatives_are_uniform_over_what_is_allowed() -> None:
    excluded = np.array([[0, 3, 3, 1], [5, 0, 0, 0]])
    drawn = uniform_negatives(np.random.default_rng(0), excluded, 6, 30_000)
    first, second = (np.bincount(row, minlength=7) / 30_000 for row in drawn)
    np.testing.assert_allclose(first, [0, 0, 1 / 4, 0, 1 / 4, 1 / 4, 1 / 4], atol=0.02)
    np.testing.assert_allclose(second, [0, 1 / 5, 1 / 5, 1 / 5, 1 / 5, 0, 1 / 5], atol=0.02)


def test_a_row_that_excludes_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="contain all 3 items"):
        uniform_negatives(np.random.default_rng(0), np.array([[1, 2, 3]]), 3, 5)


def test_popularity_counts_training_alone(prepared: Prepared) -> None:
    facts = dataset_facts(prepared, parse_recipe({"dataset": "small", "model": "popularity"}, "test"))
    counts = np.zeros(len(prepared.items) + 1)
    for start, stop in zip(prepared.user_starts[:-1], prepared.user_starts[1:], strict=True):
        np.add.at(counts, prepared.columns["items"][start : stop - 2], 1)
    assert facts.item_popularity.tolist() == counts.tolist()
    assert facts.item_popularity.dtype == np.float32
