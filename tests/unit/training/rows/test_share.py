from __future__ import annotations

import numpy as np
import pytest
import torch

from models.catalog import MODELS
from training.data.prepare import Prepared
from training.recipe import TrainingRecipe, parse_recipe
from training.rows.loader import Loader, Portion, dataset_facts, sequence_spec
from training.rows.share import WHOLE, Share
from training.rows.split import leave_last_out


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 257])
def test_the_shares_of_a_batch_are_all_its_rows_once_and_none_is_a_single_row(rows: int, size: int) -> None:
    shares = [list(range(rows)[Share(rank, size).of(rows)]) for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert rows == 1 or 1 not in map(len, shares)


def _loader(prepared: Prepared) -> Loader:
    config = {"length": 8, "width": 8, "blocks": 1, "heads": 1, "inner": 8}
    recipe = parse_recipe({"dataset": "small", "model": "sasrec", "config": config}, "test")
    model = MODELS["sasrec"].build(recipe.config, dataset_facts(prepared, recipe))
    return Loader(prepared, sequence_spec(model), leave_last_out(prepared).train)


def _portions(prepared: Prepared, recipe: TrainingRecipe, share: Share) -> list[Portion]:
    return list(_loader(prepared).portions(np.random.default_rng(5), np.arange(70), recipe, share))


@pytest.mark.parametrize("source", ["shared", "mixed"])
def test_processes_split_each_batch_and_share_its_negatives(prepared: Prepared, source: str) -> None:
    recipe = TrainingRecipe(batch=32, negatives=6, negatives_from=source)
    whole = _portions(prepared, recipe, WHOLE)
    parts = [_portions(prepared, recipe, Share(rank, 2)) for rank in range(2)]
    for one, *halves in zip(whole, *parts, strict=True):
        assert one.batch is not None
        batches = [half.batch for half in halves if half.batch is not None]
        assert torch.equal(torch.cat([batch.targets for batch in batches]), one.batch.targets)
        assert torch.equal(torch.cat([batch.inputs["items"] for batch in batches]), one.batch.inputs["items"])
        for batch in batches:
            assert torch.equal(batch.negatives, one.batch.negatives)
            assert torch.equal(batch.log_counts, one.batch.log_counts)
        assert sum(half.weight for half in halves) == pytest.approx(1.0)


def test_processes_draw_other_negatives_for_their_rows(prepared: Prepared) -> None:
    recipe = TrainingRecipe(batch=32, negatives=6)
    parts = [_portions(prepared, recipe, Share(rank, 2)) for rank in range(2)]
    first, second = (part[0].batch for part in parts)
    assert first is not None
    assert second is not None
    assert not torch.equal(first.negatives, second.negatives)


def test_a_process_without_rows_has_no_batch_and_no_weight(prepared: Prepared) -> None:
    portions = list(
        _loader(prepared).portions(np.random.default_rng(5), np.arange(35), TrainingRecipe(batch=32), Share(1, 2))
    )
    assert [portion.rows for portion in portions] == [32, 3]
    assert (portions[1].batch, portions[1].weight) == (None, 0.0)
