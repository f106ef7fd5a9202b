"""Properties of every model in the catalogue, with every main switch."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch

from models.base import SequentialRecommender, Tensors, TrainingBatch
from models.baselines import deeprec
from models.catalog import MODELS
from tests.unit.models.cases import (
    ITEMS,
    LEARNING,
    LENGTH,
    OVERFITTING,
    SLOT_BOUND,
    VARIANTS,
    build,
    facts,
    histories,
    inputs_of,
    ready,
    scores_of,
    seed,
)

EVERY = pytest.mark.parametrize("case", VARIANTS)
LENGTHS = [0, 1, 2, 3, LENGTH - 1, LENGTH, LENGTH + 10]
ROWS = len(LENGTHS)
USER_INDICES = [0, 1, 2, 3, 4, 5, 6]


def close(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_every_model_of_the_catalogue_is_tested() -> None:
    assert {name for name, _ in VARIANTS.values()} == set(MODELS)
    assert {VARIANTS[case][0] for case in OVERFITTING} == set(MODELS) - {"popularity"}


@EVERY
def test_state_scores_and_explanations_have_the_promised_shapes(case: str) -> None:
    model = ready(case)
    with torch.no_grad():
        encoded = model.encode(inputs_of(model, histories(LENGTHS), USER_INDICES))
        scored = model.score(encoded.state, torch.tensor([1, 2, 30, 4]), torch.tensor([0, 6, 6, 3]))
        everything = model.score_all(encoded.state)
    assert {len(tensor) for tensor in (encoded.state | encoded.explanation).values()} == {ROWS}
    assert {tensor.dtype for tensor in encoded.state.values()} <= {torch.float32, torch.int64}
    assert scored.scores.shape == (4,)
    assert scored.scores.dtype == torch.float32
    assert [tensor.shape for tensor in scored.explanation.values()] == [(4,)] * len(scored.explanation)
    assert everything.shape == (ROWS, ITEMS + 1)


@EVERY
def test_scores_of_any_history_are_finite(case: str) -> None:
    model = ready(case)
    assert torch.isfinite(scores_of(model, inputs_of(model, histories(LENGTHS), USER_INDICES))).all()


@EVERY
def test_score_all_equals_score(case: str) -> None:
    model = ready(case)
    inputs = inputs_of(model, histories(LENGTHS), USER_INDICES)
    with torch.no_grad():
        everything = model.score_all(model.encode(inputs).state)
    close(everything[:, 1:], scores_of(model, inputs))


@EVERY
def test_other_rows_of_a_batch_do_not_change_a_rows_scores(case: str) -> None:
    model = ready(case)
    rows = histories(LENGTHS)
    together = scores_of(model, inputs_of(model, rows, USER_INDICES))
    for place, (row, user) in enumerate(zip(rows, USER_INDICES, strict=True)):
        close(scores_of(model, inputs_of(model, [row], [user]))[0], together[place])
    backwards = scores_of(model, inputs_of(model, rows[::-1], USER_INDICES[::-1]))
    close(backwards.flip(0), together)


@EVERY
def test_candidate_order_only_permutes_scores(case: str) -> None:
    model = ready(case)
    candidates, rows = torch.arange(1, 15), torch.arange(14) % ROWS
    order = torch.randperm(14, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        state = model.encode(inputs_of(model, histories(LENGTHS), USER_INDICES)).state
        straight = model.score(state, candidates, rows).scores
        shuffled = model.score(state, candidates[order], rows[order]).scores
    close(shuffled, straight[order])


@EVERY
def test_a_longer_history_than_the_model_reads_scores_as_its_newest_part(case: str) -> None:
    model = ready(case)
    long = histories([LENGTH + 10])[0]
    newest = {name: column[-LENGTH:] for name, column in long.items()}
    both = scores_of(model, inputs_of(model, [long, newest], [1, 1]))
    close(both[0], both[1])


@EVERY
def test_what_tables_and_other_columns_hold_for_padding_never_reaches_a_score(case: str) -> None:
    model = build(case)
    inputs = inputs_of(model, histories(LENGTHS), USER_INDICES)
    before = scores_of(model, inputs)
    padded = inputs["items"] == 0
    garbage = {name: torch.where(padded, 77_000, inputs[name]) for name in ("times", "values") if name in inputs}
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Embedding) and layer.padding_idx == 0 and layer.num_embeddings == ITEMS + 1:
                layer.weight[0] = 100.0
    close(scores_of(model, inputs | garbage), before)


GROWING = [case for case, (name, _) in VARIANTS.items() if name not in SLOT_BOUND]


def grown(case: str, more: int) -> SequentialRecommender:
    """The same model with `more` slots of padding; weights that are indexed by recency get more of them on the left."""
    weights = dict(ready(case).state_dict())
    model = build(case, length=LENGTH + more)
    for name, fresh in model.state_dict().items():
        if fresh.shape != weights[name].shape:
            weights[name] = torch.cat((fresh[:more], weights[name]))
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("case", GROWING)
def test_padding_does_not_change_scores(case: str) -> None:
    """Some are left out: a mixing matrix along the sequence is indexed by place and by length, a pair by parity."""
    rows = histories([0, 1, 3, LENGTH - 1])  # BERT4Rec reads no more: its mask takes a slot
    shorter, longer = ready(case), grown(case, 5)
    users = [0, 1, 2, 3]
    close(scores_of(longer, inputs_of(longer, rows, users)), scores_of(shorter, inputs_of(shorter, rows, users)))


BIASED = [
    case
    for case in VARIANTS
    if "bias" in case or case in {"popularity", "mgnm", "mgnm-relu-bce", "mind", "comirec-dr", "comirec-sa"}
]


@pytest.mark.parametrize("case", BIASED)
def test_an_empty_history_ranks_by_popularity_before_training(case: str) -> None:
    name, config = VARIANTS[case]
    seed(0)
    known = facts()
    model = MODELS[name].build(config, known).eval()
    scores = scores_of(model, inputs_of(model, histories([0]), [0]))[0].numpy()
    assert np.corrcoef(np.log1p(known.item_popularity[1:]), scores)[0, 1] > 0.8


@pytest.mark.parametrize("case", LEARNING)
def test_every_weight_that_learns_gets_a_gradient(case: str) -> None:
    model = build(case).train()
    rows = histories([LENGTH, LENGTH, 5, 3])
    batch = TrainingBatch(
        inputs_of(model, rows, [1, 2, 3, 4]), torch.tensor([1, 2, 3, 4]), torch.arange(5, 25).view(4, 5)
    )
    model.loss(batch).backward()  # type: ignore[no-untyped-call]
    unmoved = {name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None}
    assert unmoved == set()


@pytest.mark.parametrize("case", LEARNING)
def test_what_was_shown_can_be_learnt_too(case: str) -> None:
    model = build(case).train()
    inputs = inputs_of(model, histories([LENGTH, 5, 3, 0]), [1, 2, 3, 0])
    shown = TrainingBatch(inputs, torch.tensor([1, 2, 3, 4]), labels=torch.tensor([1.0, 0.0, 1.0, 0.0]))
    loss = model.loss(shown)
    assert torch.isfinite(loss)
    loss.backward()  # type: ignore[no-untyped-call]
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


SHOWN = torch.tensor([1.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize(("case", "labels"), [*((case, None) for case in LEARNING), ("mgnm", SHOWN), ("mind", SHOWN)])
def test_a_row_of_weight_zero_teaches_nothing_and_one_weight_for_all_changes_nothing(
    case: str, labels: torch.Tensor | None
) -> None:
    model = build(case).train()
    for module in model.modules():
        if "Norm" in type(module).__name__ and hasattr(module, "running_mean"):
            module.eval()  # statistics of a batch mix its rows
    inputs = inputs_of(model, histories([LENGTH, LENGTH, 5, 3]), [1, 2, 3, 4])

    def loss(weights: list[float] | None, last: int) -> torch.Tensor:
        targets, negatives = torch.tensor([1, 2, 3, last]), torch.arange(5, 25).view(4, 5)
        given = None if weights is None else torch.tensor(weights)
        seed(0)  # dropout and masks
        return model.loss(TrainingBatch(inputs, targets, negatives, labels, weights=given)).detach()

    close(loss([1.0, 2.0, 3.0, 0.0], last=4), loss([1.0, 2.0, 3.0, 0.0], last=29))
    close(loss([2.0, 2.0, 2.0, 2.0], last=4), loss(None, last=4))
    assert not torch.allclose(loss([1.0, 2.0, 3.0, 9.0], last=4), loss(None, last=4))


@EVERY
def test_lists_of_candidates_score_as_each_candidate_does(case: str) -> None:
    model = ready(case)
    lists = torch.tensor([[1, 2, 30], [4, 4, 5]])
    with torch.no_grad():
        state = model.encode(inputs_of(model, histories([2, LENGTH]), [1, 2])).state
        scored = model.score_lists(state, lists)
        flat = model.score(state, lists.flatten(), torch.tensor([0, 0, 0, 1, 1, 1])).scores
    close(scored.flatten(), flat)


@pytest.mark.parametrize("case", [case for case, (name, _) in VARIANTS.items() if name in ("sli_rec", "surge")])
@pytest.mark.parametrize("candidates", [6, 7, 15])
def test_rows_in_groups_of_like_length_score_the_same(
    case: str, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ready(case)
    lists = torch.randint(1, ITEMS + 1, (5, 7), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        state = model.encode(inputs_of(model, histories([4, LENGTH, 0, 1, 3]), [1, 2, 0, 3, 1])).state
        whole = model.score_lists(state, lists)
        monkeypatch.setattr(deeprec, "_CANDIDATES", candidates)
        close(model.score_lists(state, lists), whole)


SECOND_VARIANTS = {"mgnm-no-projection-bpr", "mgnm-relu-bce", "mimn-side", "pm-ranking", "tgsrec-softmax-bias"}
"""Dear ones, of models that have a cheaper variant in the list."""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case in SECOND_VARIANTS)) for case in OVERFITTING]
)
def test_ten_users_can_be_learnt_by_heart(case: str) -> None:
    seed(0)
    name, config = VARIANTS[case]
    model = MODELS[name].build(config | {"dropout": 0.0}, facts()).train()
    inputs = inputs_of(model, histories([6] * 10, seed=4), list(range(1, 11)))
    if "request_time" in inputs:  # at the log's end: what reads the log then sees in training what it sees in serving
        inputs["request_time"] = torch.full((10,), int(facts().log.times_ms[-1]) + 1)
    targets = torch.arange(1, 11) * 3
    others = torch.stack([torch.cat((torch.arange(1, t), torch.arange(t + 1, ITEMS + 1))) for t in targets.tolist()])
    slow = case in {"pm-ranking", "bert4rec"}  # one logit per pair, and masks anywhere, teach less in a step
    optimizer = torch.optim.Adam(
        [weight for weight in model.parameters() if weight.requires_grad], lr=0.005 if slow else 0.02
    )
    for step in range(200 if slow else 80):
        optimizer.zero_grad()
        cast(torch.Tensor, model.loss(TrainingBatch(inputs, targets, others))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 10 == 9 and known_by_heart(model, inputs, targets):
            return
    pytest.fail("not learnt")


def known_by_heart(model: SequentialRecommender, inputs: Tensors, targets: torch.Tensor) -> bool:
    """Whether nine of ten users' targets are on top; the model is back in training mode."""
    best = scores_of(model.eval(), inputs).argmax(dim=1) + 1
    model.train()
    return int((best == targets).sum()) >= 9


@EVERY
def test_evaluation_is_repeatable_to_the_bit(case: str) -> None:
    model = ready(case)
    inputs = inputs_of(model, histories(LENGTHS), USER_INDICES)
    assert torch.equal(scores_of(model, inputs), scores_of(model, inputs))
