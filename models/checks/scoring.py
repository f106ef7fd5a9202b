"""Checks of `encode` and `score`. Symbols: B rows, T length, M flat candidates, I items."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from contract.behaviours.actions import ACTION_CODES
from models.base import SequentialRecommender, Tensors
from models.checkpoint import load_checkpoint, save_checkpoint
from models.checks.catalogue import ITEMS, facts, histories, inputs_of, scores_of
from models.checks.subject import NotApplicableError, Subject, close, require

_GARBAGE = {"times": 77_000, "values": 77_000, "plays": 77_000, "actions": ACTION_CODES["play"]}


def lengths_of(model: SequentialRecommender) -> list[int]:
    """Return lengths of histories: none, a few, as many as the model reads, and more."""
    T = model.length
    return [0, 1, 2, 3, T - 1, T, T + 10]


def _inputs(model: SequentialRecommender) -> Tensors:
    """Return one row for each length; the user of the first row is unknown."""
    return inputs_of(model, histories(lengths_of(model)), range(7))


@torch.no_grad()
def state_scores_and_explanations_have_the_promised_shapes(subject: Subject) -> None:
    """State: (B, ...) of float32 or int64. Scores: (M,) of float32. Explanations: (B, ...) and (M,)."""
    model = subject.ready
    encoded = model.encode(_inputs(model))
    scored = model.score(encoded.state, torch.tensor([1, 2, 30, 4]), torch.tensor([0, 6, 6, 3]))
    for name, tensor in (encoded.state | encoded.explanation).items():
        require(tensor.dim() > 0 and len(tensor) == 7, f"encode: {name} {tuple(tensor.shape)} is not (7, ...)")
    for name, tensor in encoded.state.items():
        require(tensor.dtype in (torch.float32, torch.int64), f"state {name} is {tensor.dtype}")
    for name, tensor in (scored.explanation | {"scores": scored.scores}).items():
        require(tensor.shape == (4,), f"score: {name} {tuple(tensor.shape)} is not (4,)")
    require(scored.scores.dtype == torch.float32, f"scores are {scored.scores.dtype}")
    everything = tuple(model.score_all(encoded.state).shape)
    require(everything == (7, ITEMS + 1), f"score_all: {everything} is not {(7, ITEMS + 1)}")


def scores_of_any_history_are_finite(subject: Subject) -> None:
    """An empty history and an unknown user have scores too."""
    model = subject.ready
    require(torch.isfinite(scores_of(model, _inputs(model))).all(), "a score is not finite")


@torch.no_grad()
def score_all_equals_score(subject: Subject) -> None:
    """Training and evaluation use the one, serving the other."""
    model = subject.ready
    inputs = _inputs(model)
    everything = model.score_all(model.encode(inputs).state)
    close(everything[:, 1:], scores_of(model, inputs), "score_all and score differ")


def other_rows_of_a_batch_do_not_change_the_scores_of_a_row(subject: Subject) -> None:
    """The service scores users together as they come."""
    model = subject.ready
    rows, users = histories(lengths_of(model)), list(range(7))
    together = scores_of(model, inputs_of(model, rows, users))
    for place, (row, user) in enumerate(zip(rows, users, strict=True)):
        single = scores_of(model, inputs_of(model, [row], [user]))[0]
        close(single, together[place], f"row {place} by itself differs from the row in a batch")
    backwards = scores_of(model, inputs_of(model, rows[::-1], users[::-1]))
    close(backwards.flip(0), together, "rows in another order differ")


@torch.no_grad()
def other_candidates_do_not_change_the_score_of_a_candidate(subject: Subject) -> None:
    """The order of candidates only permutes scores, and a few score as among many."""
    model = subject.ready
    candidates, rows = torch.arange(1, 15), torch.arange(14) % 7
    order = torch.randperm(14, generator=torch.Generator().manual_seed(1))
    state = model.encode(_inputs(model)).state
    straight = model.score(state, candidates, rows).scores
    shuffled = model.score(state, candidates[order], rows[order]).scores
    close(shuffled, straight[order], "candidates in another order differ")
    close(model.score(state, candidates[:3], rows[:3]).scores, straight[:3], "three of the candidates differ")


@torch.no_grad()
def lists_of_candidates_score_as_each_candidate_does(subject: Subject) -> None:
    """Training scores lists (B, N), serving flat candidates."""
    model = subject.ready
    lists = torch.tensor([[1, 2, 30], [4, 4, 5]])
    state = model.encode(inputs_of(model, histories([2, model.length]), [1, 2])).state
    flat = model.score(state, lists.flatten(), torch.tensor([0, 0, 0, 1, 1, 1])).scores
    close(model.score_lists(state, lists).flatten(), flat, "score_lists and score differ")


def a_longer_history_than_the_model_reads_scores_as_its_newest_part(subject: Subject) -> None:
    """Only the newest `length` behaviours count."""
    model = subject.ready
    long = histories([model.length + 10])[0]
    newest = {name: column[-model.length :] for name, column in long.items()}
    both = scores_of(model, inputs_of(model, [long, newest], [1, 1]))
    close(both[0], both[1], "the older part changes scores")


def the_content_of_padding_never_reaches_a_score(subject: Subject) -> None:
    """Neither row 0 of a table of items nor what other columns have in padded places."""
    model = subject.build()
    inputs = _inputs(model)
    before, padded = scores_of(model, inputs), inputs["items"] == 0
    garbage = {name: torch.where(padded, junk, inputs[name]) for name, junk in _GARBAGE.items() if name in inputs}
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Embedding) and layer.padding_idx == 0 and layer.num_embeddings == ITEMS + 1:
                layer.weight[0] = 100.0
    close(scores_of(model, inputs | garbage), before, "what padding contains changes scores")


def more_padding_does_not_change_scores(subject: Subject) -> None:
    """Weights that belong to a place count it from the newest behaviour; more places are added on the left."""
    shorter, more = subject.ready, 5
    if shorter.slot_bound:
        raise NotApplicableError("the model's weights are tied to places of the sequence")
    if "length" not in {field.name for field in fields(subject.entry.config)}:
        raise NotApplicableError("the config has no length")
    longer = subject.build(length=shorter.length + more)
    weights = dict(shorter.state_dict())
    for name, fresh in longer.state_dict().items():
        known = weights[name]
        if fresh.shape != known.shape:
            fits = fresh.shape[1:] == known.shape[1:] and len(fresh) == len(known) + more
            require(fits, f"{name} {tuple(known.shape)} becomes {tuple(fresh.shape)}: set slot_bound if that is meant")
            weights[name] = torch.cat((fresh[:more], known))
    longer.load_state_dict(weights)
    rows, users = histories([0, 1, 3, shorter.length - 1]), [0, 1, 2, 3]
    expected = scores_of(shorter, inputs_of(shorter, rows, users))
    close(
        scores_of(longer, inputs_of(longer, rows, users)),
        expected,
        "padding on the left changes scores (set slot_bound if that is meant)",
    )


def evaluation_is_repeatable_to_the_bit(subject: Subject) -> None:
    """No dropout and no draw outside training."""
    model = subject.ready
    inputs = _inputs(model)
    require(torch.equal(scores_of(model, inputs), scores_of(model, inputs)), "two runs differ")


def a_checkpoint_gives_the_same_scores(subject: Subject) -> None:
    """All of a model is in the weights, the config and the facts of the data."""
    model = subject.ready
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        save_checkpoint(path, subject.model, subject.config, facts(subject.features), model)
        _, loaded = load_checkpoint(path)
    require(not loaded.training, "a loaded model is in training mode")
    inputs = _inputs(model)
    require(torch.equal(scores_of(loaded, inputs), scores_of(model, inputs)), "a loaded model has other scores")
