"""Items that training never met: scored from their features as if they were in the tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.base import MASKED, DatasetFacts, SequentialRecommender, TrainingBatch
from models.checks import growing
from models.checks.catalogue import ITEMS, facts_with_new, histories, inputs_of
from models.checks.every import Check
from models.parts.new_items import IdPart, set_shift
from tests.unit.models.cases import LENGTH, build, subject

CASES = ["fmlp-new-items", "sasrec-new-items", "pm-new-items", "pm-ranking-new-items"]
NEW = pytest.mark.parametrize("case", CASES)
NEVER = 7


CHECKS = (
    growing.a_new_candidate_scores_as_the_item_without_interactions_that_has_its_features,
    growing.a_new_item_in_a_history_reads_as_the_item_without_interactions_that_has_its_features,
    growing.the_row_that_training_never_moved_does_not_reach_a_score,
)


def model_of(case: str, **changes: Any) -> SequentialRecommender:
    return subject(case).build(facts_with_new(NEVER), **changes)


@NEW
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_model_that_describes_new_items_passes_the_check(check: Check, case: str) -> None:
    check(subject(case))


@NEW
def test_a_shift_raises_the_scores_of_all_new_items_and_only_theirs(case: str) -> None:
    model, rows, features = model_of(case), torch.tensor([0, 1, 2]), facts_with_new(NEVER).item_features

    def scored(item: int) -> tuple[torch.Tensor, torch.Tensor]:
        state = model.encode(inputs_of(model, histories([0, 3, LENGTH]), [0, 1, 2])).state
        described = model.describe({one: torch.from_numpy(features[one][item, None]) for one in model.described_by})
        vectors = described.candidates.expand(3, -1)
        return model.score(state, torch.full((3,), item), rows).scores, model.score_new(state, vectors, rows).scores

    with torch.no_grad():
        known, before = scored(3), scored(NEVER)
        set_shift(model, 1.5)
        torch.testing.assert_close(scored(3)[0], known[0])
        for found, unshifted in zip(scored(NEVER), before, strict=True):
            torch.testing.assert_close(found, unshifted + 1.5)


@NEW
def test_weights_from_before_there_was_a_shift_have_none(case: str) -> None:
    model, other = model_of(case), model_of(case)
    set_shift(model, 2.0)
    other.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if not name.endswith("shift")})
    (part,) = [one for one in other.modules() if isinstance(one, IdPart)]
    assert float(part.shift) == 0.0


@NEW
def test_without_dropout_of_ids_a_model_describes_nothing(case: str) -> None:
    assert set(build(case).described_by) <= {"genres", "year"}
    assert build(case).described_by
    assert build(case, id_dropout=0.0).described_by == ()


@NEW
def test_training_teaches_the_substitute_and_never_the_rows_of_new_items(case: str) -> None:
    model = model_of(case).train()
    inputs = inputs_of(model, histories([LENGTH] * 8), [1] * 8)
    inputs["items"][:, -1] = NEVER
    targets = torch.tensor([item for item in range(1, 10) if item != NEVER][:8])
    negatives = torch.randint(1, ITEMS + 1, (8, 5))
    torch.manual_seed(1)
    model.loss(TrainingBatch(inputs, targets, negatives)).backward()  # type: ignore[no-untyped-call]
    part = next(module for module in model.modules() if isinstance(module, IdPart))
    table = next(one for one in model.modules() if isinstance(one, torch.nn.Embedding) and len(one.weight) == ITEMS + 1)
    assert part.vector.grad is not None
    assert part.vector.grad.abs().sum() > 0
    assert table.weight.grad is not None
    assert not table.weight.grad[NEVER].any()


def test_each_step_takes_away_the_ids_of_about_the_named_share_of_items() -> None:
    counts = np.ones(20_001, dtype=np.float32)
    part = IdPart(DatasetFacts(20_000, 1, counts), 1, 0.25).train()
    with torch.no_grad():
        part.vector.fill_(1.0)
    ids = torch.arange(20_001)
    torch.manual_seed(2)
    part.draw()
    first = part.rows(ids, torch.zeros(20_001, 1))[:, 0]
    assert 0.24 < first.mean() < 0.26
    assert torch.equal(first, part.table(torch.zeros(20_001, 1))[:, 0])  # histories and candidates lose the same ids
    assert torch.equal(first, part.biases(torch.zeros(20_001)) + first)  # the substitute's bias is 0 at the start
    part.draw()
    assert not torch.equal(first, part.rows(ids, torch.zeros(20_001, 1))[:, 0])


def test_items_without_interactions_take_no_part_in_training() -> None:
    model = model_of("fmlp-new-items").train()
    scores = model.score_all(model.encode(inputs_of(model, histories([3]), [1])).state)
    assert scores[0, NEVER] < MASKED / 2
    assert scores[0, 1:].gt(MASKED / 2).sum() == ITEMS - int((facts_with_new(NEVER).item_popularity[1:] == 0).sum())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"id_dropout": 1.5}, "id_dropout 1.5"), ({"id_dropout": 0.2, "out_side": False}, "out_side")],
)
def test_an_id_dropout_that_cannot_work_is_refused(changes: dict[str, Any], problem: str) -> None:
    for case in ("fmlp-new-items", "pm-new-items"):
        with pytest.raises(ValueError, match=problem):
            build(case, **changes)
