"""TGSRec against its recursive definition, written without batches: one node, one neighbour at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.base import DatasetFacts, InteractionLog, Tensors, TrainingBatch
from models.baselines.tgsrec import Adjacency, TGSRec
from models.catalog import MODELS
from models.checkpoint import load_checkpoint, save_checkpoint
from models.checks.catalogue import ITEMS, USERS, facts, histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, VARIANTS, build

Array = NDArray[np.float64]
CASES = [case for case in VARIANTS if VARIANTS[case][0] == "tgsrec"]
LENGTHS, WHO = [0, 1, 4, LENGTH], [0, 3, 0, 5]


def moved(case: str, log: InteractionLog | None = None, **changes: Any) -> TGSRec:
    """A model in evaluation mode whose weights are off their start, and whose item vectors are those of its weights."""
    torch.manual_seed(3)
    known = facts()
    if log is not None:
        known = DatasetFacts(ITEMS, USERS, known.item_popularity, log=log)
    model = cast(TGSRec, MODELS["tgsrec"].build(VARIANTS[case][1] | changes, known))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
            if name in ("items.weight", "users.weight"):
                weight[0] = 0.0
    return model.eval()


class Slow:
    """The definition, node by node, over a list of interactions."""

    def __init__(self, case: str, model: TGSRec, log: InteractionLog) -> None:
        self.w = {name: tensor.numpy().astype(np.float64) for name, tensor in model.state_dict().items()}
        self.neighbours = VARIANTS[case][1]["neighbours"][::-1]  # of layer 1 first
        self.layers = len(self.neighbours)
        self.log = list(zip(*(column.tolist() for column in log), strict=True))

    def phi(self, milliseconds: int) -> Array:
        return np.cos(milliseconds / 86_400_000 * self.w["rate"] + self.w["phase"])

    def layer(self, number: int, own: Array, met: list[tuple[Array, int]]) -> Array:
        """`met`: vectors of the neighbours, and milliseconds since each."""
        w = {name.removeprefix(f"layers.{number}."): weight for name, weight in self.w.items()}
        q = np.concatenate((own, self.phi(0)))
        heads, D = 2, len(q)
        attended = np.zeros(D)
        keys = [np.concatenate((vector, self.phi(ago))) for vector, ago in met]
        for head in range(heads):
            mine = slice(head * D // heads, (head + 1) * D // heads)
            asked = (w["query.weight"] @ q)[mine]
            logits = np.array([asked @ (w["key.weight"] @ key)[mine] / np.sqrt(D / heads) for key in keys])
            weights = np.exp(logits) / np.exp(logits).sum()
            for weight, key in zip(weights, keys, strict=True):
                attended[mine] += weight * (w["value.weight"] @ key)[mine]
        x = q + w["out.weight"] @ attended + w["out.bias"]
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w["norm.weight"] + w["norm.bias"]
        hidden = w["inner.weight"] @ np.concatenate((x, own)) + w["inner.bias"]
        return np.asarray(w["last.weight"] @ np.maximum(hidden, 0) + w["last.bias"])

    def item(self, item: int, time: int, layers: int) -> Array:
        """h^layers of an item."""
        if layers == 0:
            return self.w["items.weight"][item]
        met = [(u, t) for u, i, t in self.log if i == item and t < time][-self.neighbours[layers - 1] :]
        near = [(self.user(u, t, layers - 1), time - t) for u, t in met]
        return self.layer(layers - 1, self.item(item, time, layers - 1), near)

    def user(self, user: int, time: int, layers: int, history: list[tuple[int, int]] | None = None) -> Array:
        """h^layers of a user, of the log or of a history that was handed in."""
        if layers == 0:
            return self.w["users.weight"][user]
        met = [(i, t) for u, i, t in self.log if u == user and t < time] if history is None else history
        near = [(self.item(i, t, layers - 1), time - t) for i, t in met[-self.neighbours[layers - 1] :]]
        return self.layer(layers - 1, self.user(user, time, layers - 1, history), near)


def one_log(log: InteractionLog) -> InteractionLog:
    """Several interactions at one moment, and one user with one item twice: what bisection gets wrong first."""
    times = log.times_ms.copy()
    times[10:14], times[30:33] = times[10], times[30]
    users, items = log.users.copy(), log.items.copy()
    users[30:34], items[30:34] = 3, 7
    return InteractionLog(users, items, times)


def asked(model: TGSRec, slow: Slow, inputs: Tensors) -> list[Array]:
    found = []
    for row in range(len(inputs["items"])):
        ids, times = inputs["items"][row].tolist(), inputs["times"][row].tolist()
        history = [(i, t) for i, t in zip(ids, times, strict=True) if i]
        found.append(slow.user(int(inputs["user"][row]), int(inputs["request_time"][row]), slow.layers, history))
    return found


@pytest.mark.parametrize("case", CASES)
def test_served_scores_are_those_of_the_recursive_definition(case: str) -> None:
    log = one_log(facts().log)
    model = moved(case, log)
    slow = Slow(case, model, log)
    inputs = inputs_of(model, histories(LENGTHS), WHO)
    end = int(log.times_ms[-1]) + 1
    items = np.array([slow.item(item, end, slow.layers) for item in range(1, ITEMS + 1)])
    expected = np.array(asked(model, slow, inputs)) @ items.T + slow.w["bias"][1:]
    np.testing.assert_allclose(scores_of(model, inputs).numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_training_scores_are_those_of_each_rows_own_time(case: str) -> None:
    log = one_log(facts().log)
    model = moved(case, log, dropout=0.0)
    slow = Slow(case, model, log)
    inputs = inputs_of(model, histories(LENGTHS), WHO)
    moments = log.times_ms[[5, 11, 31, 50]]
    inputs["request_time"] = torch.from_numpy(moments)
    lists = torch.from_numpy(np.stack((log.items[[5, 11, 31, 50]], [7, 2, 30, 7]), axis=1))
    model.train()
    with torch.no_grad():
        found = model.score_lists(model.encode(inputs).state, lists).numpy()
    users = asked(model, slow, inputs)
    expected = [
        [user @ slow.item(item, int(time), slow.layers) + slow.w["bias"][item] for item in candidates]
        for user, time, candidates in zip(users, moments, lists.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_row_does_not_see_its_own_interaction_or_any_later_one() -> None:
    """The loss of a training row is the same to the bit with and without its own interaction and what follows."""
    log = one_log(facts().log)
    place = 31  # others of the same user and item happen at the same moment
    before = InteractionLog(*(column[log.times_ms < log.times_ms[place]] for column in log))
    assert len(before.users) == 30
    losses = []
    for known in (log, before):
        model = moved("tgsrec", known, dropout=0.0)
        inputs = inputs_of(model, histories([5]), [int(log.users[place])])
        inputs["request_time"] = torch.from_numpy(log.times_ms[[place]])
        inputs["times"] = inputs["times"].clamp(max=int(log.times_ms[place]))
        row = TrainingBatch(inputs, torch.from_numpy(log.items[[place]]), torch.tensor([[1, 2, 30]]))
        losses.append(model.train().loss(row).item())
    assert losses[0] == losses[1]


def test_a_row_does_see_what_happened_a_moment_earlier() -> None:
    """A fault that the test above must notice."""
    model = moved("tgsrec")
    log = facts().log
    item, time = torch.from_numpy(log.items[[40]]), torch.from_numpy(log.times_ms[[40]])
    with torch.no_grad():
        at, after = (model._vectors("items", item, when, 2) for when in (time, time + 1))
    assert (at - after).abs().max() > 1e-3


def test_neighbours_are_the_last_ones_strictly_earlier() -> None:
    random = np.random.default_rng(0)
    own, met = random.integers(1, 6, 300), random.integers(1, 50, 300)
    times = np.sort(random.integers(0, 60, 300))
    graph = Adjacency(8, own, met, times)
    nodes, moments = torch.arange(8).repeat_interleave(64), torch.arange(-2, 62).repeat(8)
    entries, exists = graph.before(nodes, moments, 4)
    for row, (node, moment) in enumerate(zip(nodes.tolist(), moments.tolist(), strict=True)):
        expected = [(m, t) for o, m, t in zip(own, met, times, strict=True) if o == node and t < moment][-4:]
        mine = entries[row][exists[row]]
        assert list(zip(graph.met[mine].tolist(), graph.times[mine].tolist(), strict=True)) == expected
        assert set(entries[row][~exists[row]].tolist()) <= {300}


def test_a_log_of_nothing_is_no_error() -> None:
    model = moved("tgsrec", InteractionLog.empty())
    assert torch.isfinite(scores_of(model, inputs_of(model, histories(LENGTHS), WHO))).all()


def test_item_vectors_follow_the_weights_when_training_stops() -> None:
    model = moved("tgsrec")
    before = model.item_vectors.clone()
    model.train()
    with torch.no_grad():
        model.rate.mul_(1.5)
    assert torch.equal(model.item_vectors, before)
    assert (model.eval().item_vectors - before).abs().max() > 1e-3


def test_a_checkpoint_serves_the_same_scores_without_the_data(tmp_path: Path) -> None:
    model = moved("tgsrec")
    config: dict[str, Any] = VARIANTS["tgsrec"][1]
    save_checkpoint(tmp_path, "tgsrec", config, facts(), model)
    _, loaded = load_checkpoint(tmp_path)
    inputs = inputs_of(model, histories(LENGTHS), WHO)
    assert torch.equal(scores_of(loaded, inputs), scores_of(model, inputs))
    again = loaded.train().eval()
    torch.testing.assert_close(scores_of(again, inputs), scores_of(model, inputs), rtol=1e-5, atol=1e-5)


def test_a_checkpoint_of_a_model_that_reads_no_log_holds_none(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *VARIANTS["sasrec"], facts(), build("sasrec"))
    with np.load(tmp_path / "facts.npz") as arrays:
        assert not any(name.startswith("log.") for name in arrays.files)


def test_attention_is_spread_over_the_behaviours_there_are() -> None:
    model = moved("tgsrec")
    with torch.no_grad():
        attention = model.encode(inputs_of(model, histories(LENGTHS), WHO)).explanation["attention"]
    torch.testing.assert_close(attention.sum(dim=1), torch.tensor([0.0, 1.0, 1.0, 1.0]))
    assert torch.equal(attention[1], torch.tensor([0.0, 0.0, 1.0]))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="heads 3"):
        MODELS["tgsrec"].build({"heads": 3}, facts())


@pytest.mark.parametrize("neighbours", [[], [5, 0]])
def test_a_layer_without_neighbours_is_refused(neighbours: list[int]) -> None:
    with pytest.raises(ValueError, match="neighbours"):
        MODELS["tgsrec"].build({"neighbours": neighbours}, facts())
