"""The context of a request, in every model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from contract.bundle.context import CONTEXT, ContextSpec
from models.base import SequentialRecommender, Tensors, TrainingBatch
from models.catalog import MODELS
from models.checkpoint import load_checkpoint, save_checkpoint
from models.checks.catalogue import ITEMS, facts, histories, inputs_of, seed
from models.context import ContextVectors
from models.growth import grow
from tests.unit.models.cases import CONTEXT as SPECS
from tests.unit.models.cases import LEARNING, LENGTH, VARIANTS, build

FIRST = {name: case for case, (name, _) in reversed(VARIANTS.items()) if name != "popularity"}
EVERY = pytest.mark.parametrize("case", FIRST.values())
CODES = torch.tensor([[9, 3, 1], [22, 3, 2], [0, 0, 0]])


def built(case: str, hidden: float = 0.0) -> SequentialRecommender:
    """Return a model with a context, its start fixed, and its tables moved off zero."""
    model = build(case, SPECS)
    assert model.context is not None
    model.context.hidden = hidden
    return model


def asked(model: SequentialRecommender, codes: torch.Tensor = CODES) -> Tensors:
    rows = histories([4, 4, 4][: len(codes)])
    return inputs_of(model, [rows[0]] * len(codes), [1] * len(codes)) | {CONTEXT: codes}


@torch.no_grad()
def scored(model: SequentialRecommender, inputs: Tensors) -> torch.Tensor:
    B = len(inputs["items"])
    candidates, rows = torch.arange(1, ITEMS + 1).repeat(B), torch.arange(B).repeat_interleave(ITEMS)
    return model.score(model.state_of(inputs), candidates, rows).scores.view(B, ITEMS)


@EVERY
def test_another_context_of_the_same_history_gives_another_order(case: str) -> None:
    scores = scored(built(case), asked(built(case)))
    assert not torch.allclose(scores[0] - scores[0].mean(), scores[1] - scores[1].mean(), atol=1e-4)


@EVERY
def test_encode_does_not_read_the_context(case: str) -> None:
    model = built(case)
    with torch.no_grad():
        states = [model.encode(asked(model, codes.expand(2, -1))).state for codes in CODES[:2]]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])


@EVERY
def test_a_context_that_has_learnt_nothing_changes_no_score(case: str) -> None:
    seed(3)
    name, config = VARIANTS[case]
    plain = MODELS[name].build(config, facts()).eval()
    seed(3)
    fresh = MODELS[name].build(config, replace(facts(), context=SPECS)).eval()
    assert torch.equal(scored(plain, asked(plain)), scored(fresh, asked(fresh)))


@pytest.mark.parametrize("case", [case for case in LEARNING if case in FIRST.values()])
def test_every_table_of_the_context_learns(case: str) -> None:
    model = built(case).train()
    inputs = inputs_of(model, histories([LENGTH, LENGTH, 5]), [1, 2, 3]) | {CONTEXT: CODES}
    negatives = torch.arange(5, 20).view(3, 5)
    model.loss(TrainingBatch(inputs, torch.tensor([1, 2, 3]), negatives)).backward()  # type: ignore[no-untyped-call]
    assert model.context is not None
    for table in model.context.tables:
        assert table.weight.grad is not None
        assert table.weight.grad.abs().sum() > 0  # type: ignore[operator]


def test_popularity_refuses_a_context() -> None:
    with pytest.raises(ValueError, match="Popularity cannot read a context"):
        MODELS["popularity"].build({}, replace(facts(), context=SPECS))


def test_training_hides_a_share_of_the_codes_and_evaluation_none() -> None:
    seed(1)
    vectors = ContextVectors(SPECS[2:], 1, 0.25)
    with torch.no_grad():
        vectors.tables[0].weight[:] = torch.tensor([[0.0], [1.0], [2.0]])  # type: ignore[index, operator]
    codes = torch.ones((20_000, 1), dtype=torch.int64)
    assert float(vectors.train()(codes).detach().mean()) == pytest.approx(0.75, abs=0.02)
    assert float(vectors.eval()(codes).detach().mean()) == 1.0


def test_a_checkpoint_keeps_the_context(tmp_path: object) -> None:
    case = FIRST["sasrec"]
    name, config = VARIANTS[case]
    model, known = built(case, 0.1), replace(facts(), context=SPECS, context_hidden=0.1)
    save_checkpoint(tmp_path, name, config, known, model)  # type: ignore[arg-type]
    _, loaded = load_checkpoint(tmp_path)  # type: ignore[arg-type]
    assert torch.equal(scored(loaded, asked(loaded)), scored(model, asked(model)))
    assert loaded.context is not None
    assert (loaded.context.specs, loaded.context.hidden) == (SPECS, 0.1)


def test_a_warm_start_keeps_what_was_learnt_about_known_values_and_knows_nothing_of_new_ones() -> None:
    case = FIRST["sasrec"]
    name, config = VARIANTS[case]
    old = built(case)
    more = (*SPECS[:2], ContextSpec(kind="category", name="device", values=("ios", "web", "tv")))
    new = MODELS[name].build(config, replace(facts(), context=more))
    grow(new, dict(old.state_dict()), ITEMS)
    assert torch.equal(scored(new, asked(new)), scored(old, asked(old)))
    tv = scored(new, asked(new, torch.tensor([[0, 0, 3]])))
    unknown = scored(new, asked(new, torch.tensor([[0, 0, 0]])))
    assert not torch.equal(tv, unknown)
    assert new.context is not None
    assert not new.context.tables[2].weight[3].any()  # type: ignore[index, operator, union-attr]
