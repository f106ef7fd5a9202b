"""A model of yesterday on the data of today is judged as it is served."""

from __future__ import annotations

import numpy as np
import torch

from models.base import DatasetFacts, SequentialRecommender
from models.catalog import MODELS
from training.data.prepare import Prepared
from training.judging.served import ServedScores
from training.rows.loader import sequence_spec
from training.rows.split import instances

KNOWN_ITEMS, KNOWN_USERS, LENGTH = 40, 25, 6


def yesterday() -> SequentialRecommender:
    torch.manual_seed(1)
    facts = DatasetFacts(KNOWN_ITEMS, KNOWN_USERS, np.arange(KNOWN_ITEMS + 1, dtype=np.float32))
    config = {"length": LENGTH, "width": 4, "interests": 2, "rnn_width": 3}
    model = MODELS["mgnm"].build(config, facts).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return model


def as_served(model: SequentialRecommender, prepared: Prepared, user: int, start: int, stop: int) -> np.ndarray:
    """Return the scores of the known items for one user, the history filtered and padded by hand."""
    history = [item for item in prepared.columns["items"][start:stop].tolist() if item <= KNOWN_ITEMS][-LENGTH:]
    items = torch.tensor([[0] * (LENGTH - len(history)) + history])
    inputs = {"items": items, "user": torch.tensor([user + 1 if user < KNOWN_USERS else 0])}
    with torch.no_grad():
        return np.asarray(model.score_all(model.encode(inputs).state)[0, 1:])


def test_known_items_have_the_scores_of_the_service_and_unknown_ones_are_below_all(prepared: Prepared) -> None:
    model = yesterday()
    rows = instances(prepared).take(np.arange(0, 400, 7))
    assert len(prepared.items) > KNOWN_ITEMS
    assert set((rows.users < KNOWN_USERS).tolist()) == {True, False}
    scores = ServedScores(model, KNOWN_USERS, prepared, sequence_spec(model)).all(rows)
    for row in range(len(rows.users)):
        expected = as_served(model, prepared, int(rows.users[row]), int(rows.starts[row]), int(rows.stops[row]))
        np.testing.assert_allclose(scores[row, 1 : KNOWN_ITEMS + 1], expected, rtol=1e-4, atol=1e-5)
    assert (scores[:, KNOWN_ITEMS + 1 :].max(axis=1) < scores[:, 1 : KNOWN_ITEMS + 1].min(axis=1)).all()


def test_lists_have_the_scores_of_all_items(prepared: Prepared) -> None:
    model = yesterday()
    served = ServedScores(model, KNOWN_USERS, prepared, sequence_spec(model))
    rows = instances(prepared).take(np.arange(5))
    candidates = np.tile(np.array([3, KNOWN_ITEMS + 2, 7]), (5, 1))
    listed, everything = served.lists(rows, candidates), served.all(rows)
    np.testing.assert_allclose(listed[:, [0, 2]], everything[:, [3, 7]], rtol=1e-5)
    assert (listed[:, 1] < listed[:, [0, 2]].min(axis=1)).all()
