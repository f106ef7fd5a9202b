"""MIND and ComiRec against slow references, and the traps of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.base import TrainingBatch
from models.checks.catalogue import ITEMS, histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, VARIANTS, build
from tests.unit.models.slow import softmax

CASES = [case for case, (name, _) in VARIANTS.items() if name in {"mind", "comirec_dr", "comirec_sa"}]
K = 3


def routed(z: Any, b: Any) -> Any:
    """Three passes, one interest and one position at a time; z [k][t] (d,), b (K, t)."""
    b = b.copy()
    for turn in range(3):
        c = np.stack([softmax(b[:, t]) for t in range(b.shape[1])], axis=1)
        o = []
        for k in range(K):
            v = sum(c[k, t] * z[k][t] for t in range(b.shape[1]))
            n = np.linalg.norm(v)
            o.append(n * n / (1 + n * n) * v / n)
        if turn < 2:
            for k in range(K):
                for t in range(b.shape[1]):
                    b[k, t] += z[k][t] @ o[k]
    return np.stack(o)


def reference(case: str, ids: Any) -> Any:
    """Scores of every item for one history without padding, in float64."""
    name, _ = VARIANTS[case]
    w = {key: value.double().numpy() for key, value in build(case).state_dict().items()}
    x = w["items.weight"][ids]
    n = len(ids)
    if name == "mind":
        q = routed([[x[t] @ w["capsule"] for t in range(n)]] * K, w["draw"].T[:, LENGTH - n :])
        if "projection.weight" in w:
            q = np.stack([np.maximum(w["projection.weight"] @ o + w["projection.bias"], 0) for o in q])
    elif name == "comirec_dr":
        m = w["capsules"]
        z = [[x[t] @ (m[LENGTH - n + t, k] if m.ndim == 4 else m[k]) for t in range(n)] for k in range(K)]
        q = routed(z, np.zeros((K, n)))
    else:
        p = x + w["positions"][LENGTH - n :] if "positions" in w else x
        a = [w["heads.weight"] @ np.tanh(w["inner.weight"] @ p[t] + w["inner.bias"]) for t in range(n)]
        q = np.stack([softmax(np.array([a[t][k] for t in range(n)])) @ x for k in range(K)])
    return [max(o @ w["items.weight"][i] for o in q) + w["bias"][i] for i in range(1, ITEMS + 1)]


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_a_slow_reference(case: str) -> None:
    model, rows = build(case), histories([1, 3, LENGTH])
    expected = np.array([reference(case, row["items"]) for row in rows])
    scores = scores_of(model, inputs_of(model, rows, [1, 2, 3])).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_lists_and_the_winning_interest(case: str) -> None:
    model = build(case)
    state = model.encode(inputs_of(model, histories([2, 5]), [1, 2])).state
    items = torch.tensor([[3, 4, 5], [9, 1, 3]])
    scored = model.score(state, items.flatten(), torch.tensor([0, 0, 0, 1, 1, 1]))
    torch.testing.assert_close(model.score_lists(state, items).flatten(), scored.scores)
    dots = torch.einsum("bkd,bnd->bnk", state["interests"], model.items(items))  # type: ignore[operator]
    assert scored.explanation["interest"].tolist() == dots.argmax(dim=-1).flatten().tolist()


@pytest.mark.parametrize("case", ["mind", "comirec-dr", "comirec-sa"])
def test_hard_readout_serves_negatives_by_the_interest_of_the_target(case: str) -> None:
    model = build(case)
    inputs = inputs_of(model, histories([4, 6]), [1, 2])
    targets, negatives = torch.tensor([3, 7]), torch.tensor([[1, 2], [8, 9]])
    q = model.encode(inputs).state["interests"]
    terms = []
    for row in range(2):
        vectors = model.items(torch.cat((targets[row : row + 1], negatives[row])))  # type: ignore[operator]
        winner = (q[row] @ vectors[0]).argmax()
        bias = model.bias[torch.cat((targets[row : row + 1], negatives[row]))]  # type: ignore[index]
        terms.append(-(vectors @ q[row, winner] + bias).log_softmax(0)[0])
    torch.testing.assert_close(model.loss(TrainingBatch(inputs, targets, negatives)), torch.stack(terms).mean())


def test_the_interests_of_mind_differ_and_do_not_change_between_calls() -> None:
    model = build("mind")
    inputs = inputs_of(model, histories([6]), [1])
    first, second = (model.encode(inputs).state["interests"][0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.allclose(first[0], first[1], atol=1e-4)
