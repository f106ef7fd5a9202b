"""MGNM against a second, slow implementation of its equations, one row at a time, without padding."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.base import TrainingBatch, log_popularity
from models.catalog import MODELS
from models.checks.catalogue import ITEMS, USERS, facts, histories, inputs_of, scores_of
from models.mgnm import MGNM
from tests.unit.models.cases import LENGTH, VARIANTS, build
from tests.unit.models.slow import Array, sigmoid, softmax


def lstm(x: Array, weights: dict[str, Array], name: str) -> Array:
    """One direction over (n, K*d), gate order input, forget, cell, output."""
    width = weights[f"{name}.weight_hh_l0"].shape[1]
    h, c, states = np.zeros(width), np.zeros(width), []
    for step in x:
        gates = weights[f"{name}.weight_ih_l0"] @ step + weights[f"{name}.bias_ih_l0"]
        gates = gates + weights[f"{name}.weight_hh_l0"] @ h + weights[f"{name}.bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def symmetric(matrix: Array) -> Array:
    root = np.diag(matrix.sum(axis=1) ** -0.5)
    return np.asarray(root @ matrix @ root)


def squash(v: Array) -> Array:
    square = float(v @ v)
    return square / (1 + square) * v / np.sqrt(square + 1e-9)


def graph_levels(x: Array, user: Array, w: dict[str, Array], config: Any) -> list[Array]:
    n = len(x)
    adjacency = np.array([[sigmoid((x[i] * x[j] * user).sum()) for j in range(n)] for i in range(n)])
    graph = symmetric(np.eye(n) + symmetric(adjacency)) if config.norm == "sym" else adjacency
    levels = [x]
    for _ in range(config.levels):
        h = graph @ levels[-1] @ w["convolution.weight"].T + w["convolution.bias"]
        levels.append(np.where(h > 0, h, 0.2 * h))
    return levels


def level_interests(level: Array, w: dict[str, Array], config: Any) -> Array:
    n, d, K = len(level), config.width, config.interests
    z = np.zeros((K, n, d))
    for k in range(K):
        for t in range(n):
            matrix = w["capsules"][config.length - n + t, k] if config.positional else w["capsules"][k]
            z[k, t] = level[t] @ matrix
    routed = z.copy()
    if config.rnn_width:
        flat = np.array([np.concatenate([z[k, t] for k in range(K)]) for t in range(n)])
        both = np.concatenate((lstm(flat, w, "forward_rnn"), lstm(flat[::-1], w, "backward_rnn")[::-1]), axis=1)
        out = both @ w["rnn_out.weight"].T + w["rnn_out.bias"]
        routed = z + out.reshape(n, K, d).transpose(1, 0, 2)
    logits = np.zeros((K, n))
    for source in (z, routed):
        o = capsules(source, logits)
        logits = logits + np.array([[source[k, t] @ o[k] for t in range(n)] for k in range(K)])
    q = capsules(z, logits)
    if config.projection != "none":
        q = np.array([q[k] @ w["projection"][k] for k in range(K)])
    return np.maximum(q, 0) if config.projection == "relu" else q


def capsules(z: Array, logits: Array) -> Array:
    K, n = logits.shape
    weights = np.array([softmax(logits[:, t]) for t in range(n)]).T
    return np.array([squash(sum((weights[k, t] * z[k, t] for t in range(n)), np.zeros(z.shape[2]))) for k in range(K)])


def slow_scores(model: MGNM, items: NDArray[np.int64], user: int) -> tuple[Array, NDArray[np.int64]]:
    """Scores and winning levels of every item, by the equations, for one row of only real behaviours."""
    w = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    x_u = w["users.weight"][user] if "users.weight" in w and user else np.ones(model.config.width)
    levels = graph_levels(w["items.weight"][items], x_u, w, model.config)
    interests = [level_interests(level, w, model.config) for level in levels]
    scores, winners = [], []
    for candidate in range(1, ITEMS + 1):
        by_level = []
        for q in interests:
            dots = q @ w["items.weight"][candidate]
            attended = softmax(dots) @ q  # the attended interest, built as the paper has it
            by_level.append(attended @ w["items.weight"][candidate])
        scores.append(max(by_level) + w["bias"][candidate])
        winners.append(int(np.argmax(by_level)))
    return np.array(scores), np.array(winners)


@pytest.mark.parametrize("case", [case for case, (name, _) in VARIANTS.items() if name == "mgnm"])
def test_scores_and_winning_levels_equal_the_slow_equations(case: str) -> None:
    model = build(case)
    assert isinstance(model, MGNM)
    with torch.no_grad():
        model.items.weight.mul_(5)  # large enough that interests differ and levels compete
    rows, users = histories([1, 2, 5, LENGTH], seed=9), [0, 3, 7, 2]
    inputs = inputs_of(model, rows, users)
    fast = scores_of(model, inputs).numpy()
    for place, (row, user) in enumerate(zip(rows, users, strict=True)):
        slow, winners = slow_scores(model, row["items"], user)
        np.testing.assert_allclose(fast[place], slow, rtol=2e-4, atol=2e-5)
        candidates = torch.arange(1, ITEMS + 1)
        with torch.no_grad():
            state = model.encode(inputs).state
            explained = model.score(state, candidates, torch.full((ITEMS,), place)).explanation["level"]
        assert (explained.numpy() == winners).mean() > 0.9  # a tie may go either way


def fresh(**config: Any) -> MGNM:
    torch.manual_seed(0)
    model = MODELS["mgnm"].build(VARIANTS["mgnm"][1] | config, facts())
    assert isinstance(model, MGNM)
    return model


def batch(model: MGNM) -> TrainingBatch:
    inputs = inputs_of(model, histories([3, 8, 5]), [1, 2, 3])
    return TrainingBatch(inputs, torch.tensor([4, 5, 6]), torch.tensor([[7, 8], [9, 10], [11, 12]]))


def test_an_unknown_user_has_the_graph_of_no_user() -> None:
    model = build("mgnm")
    assert isinstance(model, MGNM)
    assert model.users is not None
    inputs = inputs_of(model, histories([6, 6]), [0, 4])
    before = scores_of(model, inputs)[0]
    with torch.no_grad():
        model.users.weight[0] = 50.0  # no history may reach the row of the unknown user
        model.users.weight[4] = 1.0
    after = scores_of(model, inputs | {"user": torch.tensor([0, 4])})
    torch.testing.assert_close(after[0], before)
    same = {"items": inputs["items"][:1].repeat(2, 1), "user": torch.tensor([0, 4])}
    torch.testing.assert_close(*scores_of(model, same))


def test_users_start_as_the_unknown_one() -> None:
    users = fresh().users
    assert users is not None
    assert torch.equal(users.weight, torch.ones(USERS + 1, 8))


def test_the_bias_starts_at_log_popularity_and_lower_for_binary_cross_entropy() -> None:
    known = log_popularity(facts().item_popularity)
    torch.testing.assert_close(fresh().bias[1:], known[1:])
    torch.testing.assert_close(fresh(objective="bce", negatives=100).bias[1:], known[1:] - np.log(100))
    silent = fresh(popularity_bias=False).bias
    assert not silent.requires_grad
    assert not silent.any()


def test_capsule_matrices_start_near_the_identity() -> None:
    model = fresh(width=32)
    torch.testing.assert_close(model.capsules.mean(dim=0), torch.eye(32), atol=0.3, rtol=0)
    assert model.projection is not None
    torch.testing.assert_close(model.projection[0], 3 * torch.eye(32))


def test_the_rnn_gets_its_gradient_every_kth_step_only() -> None:
    model = fresh(rnn_gradient_every=3).train()
    reached = []
    for _ in range(6):
        model.zero_grad()
        cast(torch.Tensor, model.loss(batch(model))).backward()  # type: ignore[no-untyped-call]
        reached.append(model.rnn_out.weight.grad is not None)
    assert reached == [False, False, True, False, False, True]


def test_routing_passes_no_gradient_to_what_it_routes_but_in_its_last_step() -> None:
    gradients = {}
    for training in (True, False):
        model = fresh(rnn_width=0, dropout=0.0).train(training)
        loss = model.loss(batch(model))
        gradients[training] = (loss.item(), torch.autograd.grad(loss, model.capsules)[0])
    assert gradients[True][0] == pytest.approx(gradients[False][0])
    assert not torch.allclose(gradients[True][1], gradients[False][1], rtol=1e-2)


def test_skipping_the_rnns_gradient_changes_no_loss() -> None:
    skipping, whole = fresh(rnn_gradient_every=5, dropout=0.0).train(), fresh(dropout=0.0).train()
    torch.testing.assert_close(skipping.loss(batch(skipping)), whole.loss(batch(whole)))


def test_regularisers_are_those_of_the_whole_batch_over_its_rows() -> None:
    plain, both = fresh(dropout=0.0), fresh(dropout=0.0, l1=0.01, l2=0.02)
    one = batch(plain)
    _, adjacency = both._encode(one.inputs)
    squares = sum(float((weight.detach() ** 2).sum()) for weight in both.parameters())
    expected = (0.01 * float(adjacency.detach().sum()) + 0.02 * 0.5 * squares) / 3
    assert (both.loss(one) - plain.loss(one)).item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_sums_over_levels_and_knows_no_maximum() -> None:
    model = fresh(dropout=0.0, levels=0)
    one = batch(model)
    items = torch.cat((one.targets[:, None], one.negatives), dim=1) if one.negatives is not None else one.targets
    rows = torch.arange(3).repeat_interleave(3)
    logits = model.score(model.encode(one.inputs).state, items.flatten(), rows).scores.view(3, 3)
    expected = -torch.log_softmax(logits, dim=1)[:, 0].mean()
    torch.testing.assert_close(model.loss(one), expected)
    inputs = one.inputs | {"user": torch.tensor([1, 2, 3])}
    assert fresh(dropout=0.0, levels=2).loss(one._replace(inputs=inputs)).item() > 2 * expected.item()


def test_a_recipe_without_negatives_is_refused() -> None:
    model = fresh()
    with pytest.raises(ValueError, match="negatives"):
        model.loss(batch(model)._replace(negatives=None))


def test_an_epoch_begins_the_count_of_steps_anew() -> None:
    model = fresh(rnn_gradient_every=2).train()
    reached = []
    for _ in range(3):
        model.begin_epoch()
        model.zero_grad()
        cast(torch.Tensor, model.loss(batch(model))).backward()  # type: ignore[no-untyped-call]
        reached.append(model.rnn_out.weight.grad is not None)
    assert reached == [False, False, False]


def moved_by_neighbours(model: MGNM) -> float:
    """Return how far scores move when their rows stand elsewhere in the batch, or are the only ones in it."""
    rows, users = histories([3, LENGTH, 5, 1, LENGTH, 2], seed=4), [1, 2, 3, 4, 5, 6]
    inputs, order = inputs_of(model, rows, users), torch.tensor([4, 2, 0, 5, 1, 3])

    def scores(chosen: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model.score_all(model.encode({name: tensor[chosen] for name, tensor in inputs.items()}).state)

    together = scores(torch.arange(6))
    alone = torch.cat([scores(torch.tensor([row])) for row in range(6)])
    return max((scores(order) - together[order]).abs().max().item(), (alone - together).abs().max().item())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", [case for case, (name, _) in VARIANTS.items() if name == "mgnm"])
def test_where_a_row_stands_in_its_batch_changes_no_score(case: str, training: bool) -> None:
    model = build(case, dropout=0.0)
    assert isinstance(model, MGNM)
    assert moved_by_neighbours(model.train(training)) < 1e-4


@pytest.mark.parametrize("training", [True, False])
def test_the_published_reshape_would_be_found(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read time-major pieces as batch-major, as the published code does: labels then leak through row places."""
    right = MGNM._rnn

    def scrambled(model: MGNM, z: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return right(model, z, mask).permute(2, 0, 1, 3).reshape(z.shape) * mask[:, None, :, None]

    monkeypatch.setattr(MGNM, "_rnn", scrambled)
    model = build("mgnm", dropout=0.0)
    assert isinstance(model, MGNM)
    assert moved_by_neighbours(model.train(training)) > 1e-3
