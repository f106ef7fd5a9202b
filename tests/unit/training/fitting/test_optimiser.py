"""Optimisers of tables: equal to the dense ones where they should be, and only the rows of the batch move."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.catalog import MODELS
from models.parts.objectives import Objective
from tests.unit.models.cases import VARIANTS
from training.data.prepare import Prepared
from training.fitting.optimiser import Optimiser, RowwiseAdagrad, TablesError, clip
from training.recipe import Tables, TrainingRecipe, parse_recipe
from training.rows.loader import Loader, dataset_facts, sequence_spec
from training.rows.split import leave_last_out

SPARSE: list[Tables] = ["sparse_adam", "rowwise_adagrad"]


class Toy(nn.Module):
    """A table and a linear layer."""

    def __init__(self, rows: int = 6, width: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.layer = nn.Embedding(rows, width), nn.Linear(width, 1)

    def loss(self, ids: Tensor) -> Tensor:
        return torch.as_tensor((self.layer(self.table(ids)) - ids[:, None]).square().mean())


def _learnt(tables: Tables, batches: list[Tensor], **training: Any) -> Toy:
    toy = Toy()
    optimiser = Optimiser(toy, TrainingRecipe(tables=tables, **training))
    for batch in batches:
        optimiser.step(toy.loss(batch), 0.05)
    return toy


@pytest.mark.parametrize("largest", [0.0, 0.1])
def test_sparse_adam_is_adam_where_every_step_reads_every_row(largest: float) -> None:
    batches = [torch.randint(0, 6, (20,), generator=torch.Generator().manual_seed(k)) for k in range(5)]
    batches = [torch.cat((batch, torch.arange(6))) for batch in batches]
    dense, sparse = (_learnt(tables, batches, clip=largest) for tables in ("adamw", "sparse_adam"))
    for one, other in zip(dense.parameters(), sparse.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)  # epsilon counts differently in both


@pytest.mark.parametrize("tables", SPARSE)
def test_rows_that_a_batch_does_not_read_rest(tables: Tables) -> None:
    before, first = Toy().table.weight, torch.tensor([0, 1, 1])
    once, then = (_learnt(tables, batches).table.weight for batches in ([first], [first, torch.tensor([2])]))
    moved = (once != before).any(dim=1)
    assert moved.tolist() == [True, True, False, False, False, False]
    assert torch.equal(then[[0, 1, 3, 4, 5]], once[[0, 1, 3, 4, 5]])
    dense = _learnt("adamw", [first, torch.tensor([2])]).table.weight
    assert not torch.equal(dense[0], _learnt("adamw", [first]).table.weight[0])  # momentum goes on


def test_rowwise_adagrad_is_adagrad_for_one_column_and_a_plain_loop_for_several() -> None:
    gradients = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    table, narrow = nn.Parameter(torch.ones(5, 3)), nn.Parameter(torch.ones(5, 1))
    dense = nn.Parameter(torch.ones(5, 1))
    ours = RowwiseAdagrad([table, narrow], lr=torch.tensor(0.3))
    theirs = torch.optim.Adagrad([dense], lr=0.3)
    expected, sums = np.ones((5, 3)), np.zeros(5)
    for step, gradient in enumerate(gradients):
        rows = np.array([0, 2, 4]) if step % 2 else np.array([1, 2])
        places = torch.from_numpy(rows)[None]
        for weight in (table, narrow):
            values = torch.from_numpy(gradient[rows][:, : weight.shape[1]])
            weight.grad = torch.sparse_coo_tensor(places, values, weight.shape, check_invariants=True)
        dense.grad = torch.as_tensor(narrow.grad).to_dense()
        ours.step()
        theirs.step()
        for row in rows:
            sums[row] += (gradient[row] ** 2).mean()
            expected[row] -= 0.3 * gradient[row] / np.sqrt(sums[row])
    np.testing.assert_allclose(table.detach().numpy(), expected, rtol=1e-5)
    torch.testing.assert_close(narrow, dense, rtol=1e-5, atol=1e-6)


def test_clipping_equals_torchs_on_dense_gradients_and_sums_repeated_rows_of_sparse_ones() -> None:
    ids = torch.tensor([0, 1, 1, 3])
    norms = []
    for largest in (1e9, 0.01):
        ours, sparse, theirs = Toy(), Toy(), Toy()
        sparse.table.sparse = True
        for toy in (ours, sparse, theirs):
            toy.loss(ids).backward()  # type: ignore[no-untyped-call]
        clip(ours.parameters(), largest)
        clip(sparse.parameters(), largest)
        norms.append(float(nn.utils.clip_grad_norm_(theirs.parameters(), largest)))
        for one, two, other in zip(ours.parameters(), sparse.parameters(), theirs.parameters(), strict=True):
            assert one.grad is not None
            assert two.grad is not None
            assert torch.equal(one.grad, torch.as_tensor(other.grad))
            torch.testing.assert_close(two.grad.to_dense(), one.grad)
    assert norms[0] == norms[1] > 0.01


def _one_step(case: str, prepared: Prepared, tables: Tables, objective: Objective) -> list[tuple[Tensor, Tensor]]:
    """How one real batch moves each weight of a model, and the weight's gradient."""
    torch.manual_seed(0)
    name, config = VARIANTS[case]
    facts = dataset_facts(prepared, parse_recipe({"dataset": "small", "model": name}, "test"))
    model = MODELS[name].build(config | {"objective": objective, "dropout": 0.0}, facts).train()
    before = [one.detach().clone() for one in model.parameters()]
    recipe = TrainingRecipe(batch=8, negatives=5, negatives_from="mixed", tables=tables, clip=0.0)
    loader = Loader(prepared, sequence_spec(model), leave_last_out(prepared).train)
    (batch,) = loader.training_batches(np.random.default_rng(0), np.arange(8), recipe)
    optimiser = Optimiser(model, recipe)
    torch.manual_seed(1)
    optimiser.step(model.loss(batch), 0.01)
    pairs = zip(before, model.parameters(), strict=True)
    return [(one.detach() - was, torch.zeros(()) if one.grad is None else one.grad) for was, one in pairs]


@pytest.mark.parametrize(
    "case",
    ["sasrec", "sasrec-side", "pm", "pm-side-grouped", "fmlp-side", "mixer", "bert4rec", "mgnm", "mind", "bpr-bias"],
)
def test_the_first_step_of_sparse_adam_is_that_of_adam_for_real_models(case: str, prepared: Prepared) -> None:
    dense, sparse = (_one_step(case, prepared, tables, "logq") for tables in ("adamw", "sparse_adam"))
    assert sum(gradient.is_sparse for _, gradient in sparse) > 0
    for (one, gradient), (other, _) in zip(dense, sparse, strict=True):
        sizeable = gradient.abs() > 1e-5  # of smaller ones epsilon, which counts differently in both, is a part
        torch.testing.assert_close(other[sizeable], one[sizeable], rtol=0.05, atol=1e-6)
        assert torch.equal(other[gradient == 0], one[gradient == 0])


@pytest.mark.parametrize("tables", SPARSE)
def test_a_loss_over_all_items_is_refused_for_sparse_tables(tables: Tables, prepared: Prepared) -> None:
    with pytest.raises(TablesError, match=r'training\.tables = .* set a sampled config.objective, such as "logq"'):
        _one_step("sasrec", prepared, tables, "full")


def test_a_resumed_optimiser_goes_on_as_the_unbroken_one() -> None:
    batches = [torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([1, 5])]
    for tables in ("adamw", *SPARSE):
        whole, toy = _learnt(tables, batches), Toy()
        first = Optimiser(toy, TrainingRecipe(tables=tables))
        for batch in batches[:2]:
            first.step(toy.loss(batch), 0.05)
        second = Optimiser(toy, TrainingRecipe(tables=tables))
        second.load_state_dict(first.state_dict())
        second.step(toy.loss(batches[2]), 0.05)
        for one, other in zip(whole.parameters(), toy.parameters(), strict=True):
            assert torch.equal(one, other)


def test_a_run_that_an_older_version_stopped_can_be_resumed() -> None:
    batches = [torch.tensor([0, 1]), torch.tensor([1, 2])]
    whole, toy = _learnt("adamw", batches), Toy()
    old = torch.optim.AdamW(toy.parameters(), lr=torch.tensor(0.05), weight_decay=0.0, fused=True)
    loss = toy.loss(batches[0])
    loss.backward()  # type: ignore[no-untyped-call]
    clip(toy.parameters(), 5.0)
    old.step()
    new = Optimiser(toy, TrainingRecipe())
    new.load_state_dict(old.state_dict())
    new.step(toy.loss(batches[1]), 0.05)
    for one, other in zip(whole.parameters(), toy.parameters(), strict=True):
        torch.testing.assert_close(one, other)
