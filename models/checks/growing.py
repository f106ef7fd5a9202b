"""Checks of models whose items, users and features grow (models/growth.py), or that describe new items.

Symbols: B rows, T length, I items.
"""

from __future__ import annotations

import numpy as np
import torch

from models.base import SequentialRecommender, Tensors
from models.checks.catalogue import (
    ITEMS,
    MORE_ITEMS,
    MORE_USERS,
    USERS,
    facts,
    facts_with_new,
    grown_facts,
    histories,
    inputs_of,
    scores_of,
    seed,
)
from models.checks.subject import NotApplicableError, Subject, close, require
from models.growth import data_buffers, grow
from models.parts.new_items import NEW_ITEMS

_NEVER = 7  # the item that no one has met


def grown(subject: Subject) -> tuple[SequentialRecommender, SequentialRecommender]:
    """Return yesterday's model and today's, in evaluation mode."""
    old = subject.build().train().eval()  # item vectors of the weights as they are now
    seed(4)
    new = subject.entry.build(subject.config, grown_facts(subject.features))
    grow(new, old.state_dict(), ITEMS)
    return old, new


def old_items_have_the_scores_of_yesterday_after_a_warm_start(subject: Subject) -> None:
    """`train --from RUN`, before its first step."""
    old, new = grown(subject)
    require(not new.training, "a grown model is in training mode")
    rows, users = histories([0, 1, 3, old.length, old.length + 10]), [0, 1, 2, 3, USERS]
    expected = scores_of(old, inputs_of(old, rows, users))
    close(scores_of(new, inputs_of(new, rows, users)), expected, "scores change")


@torch.no_grad()
def new_items_and_users_have_rows_and_finite_scores_after_a_warm_start(subject: Subject) -> None:
    """Vocabularies append."""
    _, new = grown(subject)
    history = histories([3])[0] | {"items": np.array([1, ITEMS + 1, ITEMS + MORE_ITEMS])}
    scores = new.score_all(new.encode(inputs_of(new, [history], [USERS + MORE_USERS])).state)
    wanted = (1, ITEMS + MORE_ITEMS + 1)
    require(tuple(scores.shape) == wanted, f"score_all: {tuple(scores.shape)} is not {wanted}")
    require(torch.isfinite(scores).all(), "a score is not finite")


def tables_grow_by_rows_and_keep_those_of_yesterday(subject: Subject) -> None:
    """An index means the same today as yesterday."""
    old, new = grown(subject)
    computed, before, after = data_buffers(new), old.state_dict(), new.state_dict()
    changed = {name for name in after if name not in computed and after[name].shape != before[name].shape}
    for name in sorted(changed):
        growth = len(after[name]) - len(before[name])
        require(growth in (MORE_ITEMS, MORE_USERS, 3), f"{name} has {growth} rows more")  # 3 values of each feature
        require(torch.equal(after[name][: len(before[name])], before[name]), f"{name}: older rows changed")


def describing(subject: Subject) -> SequentialRecommender:
    """Return the model of a catalogue in which no one has met one item."""
    if not subject.ready.described_by:
        raise NotApplicableError("the model describes no new items")
    return subject.build(facts_with_new(_NEVER, subject.features))


def _features(subject: Subject, model: SequentialRecommender) -> Tensors:
    known = facts(subject.features).item_features
    return {name: torch.from_numpy(known[name][_NEVER : _NEVER + 1]) for name in model.described_by}


@torch.no_grad()
def a_new_candidate_scores_as_the_item_without_interactions_that_has_its_features(subject: Subject) -> None:
    """`describe` and `score_new` against `score`."""
    model = describing(subject)
    rows = torch.tensor([0, 1, 2])
    state = model.encode(inputs_of(model, histories([0, 3, model.length]), [0, 1, 2])).state
    vectors = model.describe(_features(subject, model)).candidates.expand(3, -1)
    known = model.score(state, torch.full((3,), _NEVER), rows).scores
    close(model.score_new(state, vectors, rows).scores, known, "score_new and score differ")


@torch.no_grad()
def a_new_item_in_a_history_reads_as_the_item_without_interactions_that_has_its_features(subject: Subject) -> None:
    """`describe` and the input `new_items` of `encode`."""
    model = describing(subject)
    inputs = inputs_of(model, histories([2, model.length]), [1, 2])
    known, given = inputs["items"].clone(), inputs["items"].clone()
    known[:, -1], given[:, -1] = _NEVER, ITEMS + 2
    described = model.describe(_features(subject, model)).history
    new = torch.cat((torch.full_like(described, 9.0), described))
    expected = model.encode(inputs | {"items": known}).state
    found = model.encode(inputs | {"items": given, NEW_ITEMS: new}).state
    for name, tensor in expected.items():
        close(found[name], tensor, f"state {name} differs")


@torch.no_grad()
def the_row_that_training_never_moved_does_not_reach_a_score(subject: Subject) -> None:
    """An item without interactions is described by its features, not by a random row."""
    model = describing(subject)
    inputs = inputs_of(model, histories([3]), [1])
    before = model.score_all(model.encode(inputs).state)
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.num_embeddings == ITEMS + 1:
            module.weight[_NEVER] = 50.0
    model.train().eval()
    close(model.score_all(model.encode(inputs).state), before, "the row of a new item changes scores")
