"""MIMN: its scores follow the equations, padding keeps the memory, and only the write evens out use."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.base import TrainingBatch
from models.baselines.mimn import MIMN
from models.checks.catalogue import ITEMS, histories, inputs_of, scores_of
from models.parts.objectives import objective_loss
from tests.unit.models.cases import LENGTH, VARIANTS, build
from tests.unit.models.slow import Array, linear, sigmoid, softmax, weights_of


def model_of(case: str) -> MIMN:
    """A model whose normalisation is not the identity."""
    model = build(case)
    assert isinstance(model, MIMN)
    random = torch.Generator().manual_seed(2)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=random))
        if name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=random))
    return model


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.sqrt((a @ a + 1e-9) * (b @ b + 1e-9)))


class Reference:
    """One row at a time, one slot at a time, as the paper and its code have it; everything is recomputed."""

    def __init__(self, model: MIMN) -> None:
        self.w = weights_of(model)
        self.config, self.d = model.config, model.vectors.width
        with torch.no_grad():
            self.x = model.vectors(torch.arange(ITEMS + 1)).numpy().astype(np.float64)

    def linear(self, name: str, x: Array) -> Array:
        return linear(x, self.w, name)

    def gru(self, of_input: Array, of_state: Array, h: Array) -> Array:
        (ir, iz, ic), (hr, hz, hc) = np.split(of_input, 3), np.split(of_state, 3)
        update = sigmoid(iz + hz)
        return np.asarray((1 - update) * np.tanh(ic + sigmoid(ir + hr) * hc) + update * h)

    def control(self, x: Array, memory: dict[str, Array]) -> tuple[Array, Array]:
        of_input = self.linear("of_item", x) + self.linear("of_read", memory["r"])
        h = self.gru(of_input, self.linear("of_state", memory["h"]), memory["h"])
        seen = np.concatenate((h, memory["used"] / 400)) if self.config.utilisation else h
        return h, np.clip(self.linear("heads", seen), -20, 20)

    def address(self, asked: Array, slots: Array) -> Array:
        key, strength = np.tanh(asked[:-1]), 2 * (np.log1p(np.exp(asked[-1])) + 1)
        fixed = np.tanh(self.w["keys"])
        return softmax(
            np.array([strength * (cosine(key, fixed[i]) + cosine(key, slots[i])) / 2 for i in range(len(slots))])
        )

    def rebalance(self, w: Array, asked: Array) -> Array:
        shift, power = softmax(asked[:3]), 4 * (np.log1p(np.exp(asked[3])) + 1)
        m = len(w)
        moved = np.array([shift[0] * w[i] + shift[1] * w[i - 1] + shift[2] * w[(i + 1) % m] for i in range(m)])
        return np.asarray(moved**power / (moved**power).sum())

    def memorise(self, items: NDArray[np.int64]) -> dict[str, Array]:
        d, m = self.d, self.config.slots
        memory = {
            "h": np.zeros(d),
            "r": np.tanh(self.w["first_read"]),
            "slots": self.w["first_slots"],
            "sums": np.zeros((m, d)),
            "used": np.zeros(m),
            "channels": np.zeros((m, d)),
            "total": np.zeros(d),
        }
        for x in self.x[items[-self.config.length :]]:
            h, asked = self.control(x, memory)
            slots, channels = memory["slots"], memory["channels"].copy()
            reading = self.address(asked[: d + 1], slots)
            writing = self.address(asked[d + 1 : 2 * d + 2], slots)
            if self.config.utilisation:
                writing = self.rebalance(writing, asked[-4:])
            if self.config.induction:
                best = int(reading.argmax())
                seen = self.linear("channel_in", np.concatenate((x, slots[best])))
                channels[best] = self.gru(seen, self.linear("channel_state", channels[best]), channels[best])
            erase, add = sigmoid(asked[2 * d + 2 : 3 * d + 2]), np.tanh(asked[3 * d + 2 : 4 * d + 2])
            memory = {
                "h": h,
                "r": reading @ slots,
                "slots": slots * (1 - np.outer(writing, erase)) + np.outer(writing, add),
                "sums": memory["sums"] + np.outer(writing, add),
                "used": memory["used"] + writing,
                "channels": channels,
                "total": memory["total"] + x,
            }
        return memory

    def attended(self, channels: Array, query: Array) -> Array:
        logits = []
        for channel in channels:
            a = self.linear("attention.map", channel)
            first = self.linear("attention.of_key", a) + self.linear("attention.of_query", query)
            first = first + self.linear("attention.of_product", a * query)
            second = np.maximum(self.linear("attention.second", np.maximum(first, 0)), 0)
            logits.append(self.linear("attention.out", second)[0])
        return np.asarray(softmax(np.array(logits)) @ channels)

    def normed(self, name: str, x: Array) -> Array:
        scale = self.w[f"{name}.weight"] / np.sqrt(self.w[f"{name}.running_var"] + 1e-5)
        return np.asarray((x - self.w[f"{name}.running_mean"]) * scale + self.w[f"{name}.bias"])

    def prelu(self, name: str, x: Array) -> Array:
        return np.where(x > 0, x, self.w[f"head.{name}.weight"] * x)

    def score(self, memory: dict[str, Array], item: int) -> float:
        x = self.x[item]
        h, asked = self.control(x, memory)
        r = self.address(asked[: self.d + 1], memory["slots"]) @ memory["slots"]
        parts = [x, self.linear("out", np.concatenate((h, r))), memory["sums"].mean(axis=0) * x]
        if self.config.induction:
            parts.append(self.attended(memory["channels"], x))
        first = self.linear("candidate", self.normed("norm", np.concatenate(parts)))
        first = self.prelu("0", first + self.linear("user", self.normed("norm_user", memory["total"])))
        return float(self.linear("head.3", self.prelu("2", self.linear("head.1", first)))[0] + self.w["bias"][item])


CASES = [case for case, (name, _) in VARIANTS.items() if name == "mimn"]


@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_the_equations(case: str) -> None:
    model = model_of(case)
    rows = histories([0, 1, 4, LENGTH, LENGTH + 3])
    got = scores_of(model, inputs_of(model, rows, [0] * 5))
    reference = Reference(model)
    memories = [reference.memorise(row["items"]) for row in rows]
    expected = [[reference.score(memory, item) for item in range(1, ITEMS + 1)] for memory in memories]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-4)


def test_the_memory_of_an_empty_history_is_the_one_it_starts_with() -> None:
    model = model_of("mimn-bias")
    state = model.encode(inputs_of(model, histories([0]), [0])).state
    assert torch.equal(state["slots"][0], model.first_slots)
    assert not state["controller"].any()
    assert not state["written"].any()
    assert not state["channels"].any()


def batch_of(model: MIMN) -> TrainingBatch:
    inputs = inputs_of(model, histories([LENGTH, 5, 3, 0]), [0] * 4)
    return TrainingBatch(inputs, torch.tensor([1, 2, 3, 4]), torch.arange(5, 25).view(4, 5))


def test_the_loss_adds_the_variance_of_aggregate_write_weights() -> None:
    model = model_of("mimn-bias")
    batch, weight = batch_of(model), model.config.utilisation
    with torch.no_grad():
        used = model.encode(batch.inputs).explanation["slot_use"]
        extra = model.loss(batch) - objective_loss(model, batch, model.config.objective)
    assert float(extra) == pytest.approx(weight * float(used.var(dim=1, correction=0).mean()), rel=0.02)
    torch.testing.assert_close(used.sum(dim=1), torch.tensor([8.0, 5.0, 3.0, 0.0]))


def test_evening_out_the_use_moves_no_address() -> None:
    """Its gradient reaches the write's shift and power, and at the first behaviour no head's key or strength."""
    model = build("mimn-bias", utilisation=1e6)  # the fit's own share is lost next to it
    assert isinstance(model, MIMN)
    inputs = inputs_of(model, histories([1]), [0])
    model.loss(TrainingBatch(inputs, torch.tensor([1]), torch.tensor([[2, 3]]))).backward()  # type: ignore[no-untyped-call]
    gradient, d = model.heads.weight.grad, model.vectors.width
    assert gradient is not None
    by_row = gradient.abs().amax(dim=1)
    assert by_row[-4:].min() > 1.0
    assert by_row[: 2 * d + 2].max() < 1.0
