"""SURGE: its scores are those of the published forward pass, taken literally for one candidate at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.base import TrainingBatch
from models.baselines.surge import SURGE
from models.checks.catalogue import ITEMS, histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, VARIANTS, build
from tests.unit.models.slow import Array, linear, sigmoid, softmax, weights_of


def model_of(case: str) -> SURGE:
    """A model whose normalisation is not the identity, and whose cluster scores are far enough apart to matter."""
    model = build(case)
    assert isinstance(model, SURGE)
    random = torch.Generator().manual_seed(2)
    with torch.no_grad():
        model.metric.add_(0.5 * torch.randn(model.metric.shape, generator=random))
        for attention in (model.cluster, model.query, model.reading):
            attention.out.weight.mul_(20)
            attention.of_product.weight.mul_(20)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.2 * torch.randn(buffer.shape, generator=random))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=random))
    return model


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.2 * x)


class Reference:
    """One row and one candidate at a time, without padding: nothing is masked, what is not kept is cut out."""

    def __init__(self, model: SURGE) -> None:
        self.w = weights_of(model)
        self.config = model.config
        with torch.no_grad():
            self.x = model.vectors(torch.arange(ITEMS + 1)).numpy().astype(np.float64)

    def linear(self, name: str, x: Array) -> Array:
        return linear(x, self.w, name)

    def attention(self, name: str, keys: Array, queries: Array) -> Array:
        logits = []
        for key, query in zip(keys, queries, strict=True):
            a = self.linear(f"{name}.map", key)
            first = self.linear(f"{name}.of_key", a) + self.linear(f"{name}.of_query", query)
            first = first + self.linear(f"{name}.of_product", a * query)
            second = np.maximum(self.linear(f"{name}.second", np.maximum(first, 0)), 0)
            logits.append(self.linear(f"{name}.out", second)[0])
        return softmax(np.array(logits))

    def graph(self, x: Array) -> tuple[Array, NDArray[np.bool_]]:
        n = len(x)
        weighted = x * self.w["metric"]
        unit = weighted / np.sqrt((weighted**2).sum(axis=1, keepdims=True) + 1e-9)
        similarity = unit @ unit.T
        for row in similarity:
            row[:] = (row - row.min()) / max(row.max() - row.min(), 0.01)
        steps = np.round(similarity * 2**14)
        best = sorted(((steps[i, j], i, j) for i in range(n) for j in range(n)), reverse=True)
        edges = np.eye(n, dtype=bool)
        for _, i, j in best[: math.ceil((steps > 0).sum() * self.config.edges)]:
            edges[i, j] = True
        adjacency = np.where(edges, similarity, 0.0) if self.config.learn_graph else edges.astype(float)
        np.fill_diagonal(adjacency, 1.0)
        degree = np.sqrt(adjacency.sum(axis=1))
        return adjacency / degree[:, None] / degree[None, :], edges

    def score(self, items: NDArray[np.int64], item: int) -> float:
        t, x = self.x[item], self.x[items[-self.config.length :]]
        h, readout = np.zeros(self.config.hidden), np.zeros_like(t)
        if len(x):
            graph, edges = self.graph(x)
            targets = np.repeat(t[None], len(x), axis=0)
            f1, f2 = self.attention("cluster", x, graph @ graph @ x), self.attention("query", x, targets)
            gathered = np.zeros_like(x)
            for i in range(len(x)):
                near = np.flatnonzero(edges[i])
                gathered[i] = softmax(leaky(f1[near] + f2[i])) @ x[near]
            x = leaky(gathered @ self.w["fusion.weight"].T + x)
            fitness = self.attention("cluster", x, graph @ graph @ x) + self.attention("query", x, targets)
            c = softmax(fitness)
            best = sorted(range(len(x)), key=lambda i: (round(fitness[i] * 2**20), i), reverse=True)
            kept = sorted(best[: self.config.pool])
            x, readout = x[kept], c[kept] @ x[kept]
            alpha = self.attention("reading", x, targets[: len(kept)])
            for one, a in zip(x, alpha, strict=True):
                (ir, iz, ic), (hr, hz, hc) = (
                    np.split(self.linear("of_behaviour", one), 3),
                    np.split(self.linear("of_state", h), 3),
                )
                update = (1 - a) * sigmoid(iz + hz)
                h = update * h + (1 - update) * np.tanh(ic + sigmoid(ir + hr) * hc)
        z = np.concatenate((h, readout, t, readout * t))
        for layer in ("head.0", "head.4"):
            norm = f"head.{int(layer[-1]) + 1}"
            scale = self.w[f"{norm}.weight"] / np.sqrt(self.w[f"{norm}.running_var"] + 1e-5)
            z = (self.linear(layer, z) - self.w[f"{norm}.running_mean"]) * scale + self.w[f"{norm}.bias"]
            z = np.maximum(z, 0)
        return float(self.linear("head.8", z)[0] + self.w["bias"][item])


@pytest.mark.parametrize("case", [case for case, (name, _) in VARIANTS.items() if name == "surge"])
def test_scores_are_those_of_the_published_forward_pass(case: str) -> None:
    model = model_of(case)
    rows = [*histories([0, 1, 2, 5, LENGTH, LENGTH + 3]), {"items": np.array([7, 7, 7, 7])}]
    rows[-1] |= {"times": 10**12 + np.arange(4), "values": np.full(4, 30)}
    rows[3]["items"][:3] = [4, 9, 4]  # equal behaviours have equal edges
    got = scores_of(model, inputs_of(model, rows, [0] * len(rows)))
    reference = Reference(model)
    expected = [[reference.score(row["items"], item) for item in range(1, ITEMS + 1)] for row in rows]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32), rtol=1e-3, atol=2e-4)


def state_of(model: SURGE, lengths: list[int]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model.encode(inputs_of(model, histories(lengths), [0] * len(lengths))).state


def test_as_many_behaviours_are_kept_as_are_asked_for_whatever_the_ties() -> None:
    model = model_of("surge-bias")
    state = state_of(model, [0, 3, 5, 6, LENGTH])
    state["cluster_scores"] = torch.zeros_like(state["cluster_scores"])
    with torch.no_grad():
        model.query.out.weight.zero_()
        _, kept = model._pooled(state, model.vectors(torch.tensor([[1, 2]] * 5)))
    assert kept.sum(dim=-1).tolist() == [[0, 0], [3, 3], [5, 5], [5, 5], [5, 5]]
    assert kept[4, 0].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]  # of equals the newest


def test_candidates_keep_different_behaviours() -> None:
    model = model_of("surge-bias")
    with torch.no_grad():
        _, kept = model._pooled(state_of(model, [LENGTH]), model.vectors(torch.arange(1, ITEMS + 1)[None]))
    assert len({tuple(one.tolist()) for one in kept[0]}) > 1


def test_half_of_the_edges_is_kept_and_everything_keeps_itself() -> None:
    model = model_of("surge-bias")
    items = inputs_of(model, histories([LENGTH, 3]), [0, 0])["items"]
    mask = (items > 0).float()
    with torch.no_grad():
        _, neighbours = model._graph(model.vectors(items) * mask[..., None], mask)
    assert torch.equal(neighbours.diagonal(dim1=1, dim2=2), mask)
    n = LENGTH
    assert n * n / 2 - n <= int(neighbours[0].sum()) <= n * n / 2 + n
    assert not neighbours[1, :-3].any()
    assert not neighbours[1, :, :-3].any()


@pytest.mark.parametrize(("case", "learns"), [("surge-bias", True), ("surge-binary-graph", False)])
def test_the_metric_learns_where_edges_carry_the_similarity(case: str, learns: bool) -> None:
    model = model_of(case)
    inputs = inputs_of(model, histories([LENGTH, 5, 3, 0]), [0] * 4)
    batch = TrainingBatch(inputs, torch.tensor([1, 2, 3, 4]), torch.arange(5, 25).view(4, 5))
    model.loss(batch).backward()  # type: ignore[no-untyped-call]
    moved = model.metric.grad is not None and bool(model.metric.grad.abs().max() > 1e-7)
    assert moved == learns
