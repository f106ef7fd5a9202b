"""The models of the deeprec frame against their equations in plain numpy, one row at a time, without padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.base import SequentialRecommender, TrainingBatch
from models.baselines import sli_rec
from models.baselines.sli_rec import Time4LSTM, log_days
from models.checks.catalogue import ITEMS, histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, VARIANTS, build
from tests.unit.models.slow import Array, Weights, linear, sigmoid, softmax, weights_of

FRAME = ["a2svd", "gru4rec_deeprec", "caser"]
CASES = [case for case, (name, _) in VARIANTS.items() if name in FRAME]
LENGTHS = [0, 1, 2, 5, LENGTH]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def vector(item: int, w: Weights, side: list[str]) -> Array:
    parts = [w["vectors.items.weight"][item]]
    for place in range(len(side)):
        values = [int(v) for v in w[f"vectors.side.{place}.codes"][item] if v > 0]
        table = w[f"vectors.side.{place}.table.weight"]
        parts.append(np.mean([table[v] for v in values], axis=0) if values else np.zeros(table.shape[1]))
    return np.concatenate(parts)


def batch_norm(x: Array, w: Weights, name: str) -> Array:
    scaled = (x - w[f"{name}.running_mean"]) / np.sqrt(w[f"{name}.running_var"] + 1e-5)
    return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])


def head(user: Array, candidate: Array, w: Weights) -> float:
    joined = np.concatenate((w["scoring.user.weight"], w["scoring.candidate.weight"]), axis=1)
    x = joined @ np.concatenate((user, candidate)) + w["scoring.user.bias"]
    x = relu(batch_norm(x, w, "scoring.norm_first"))
    x = relu(batch_norm(linear(x, w, "scoring.second"), w, "scoring.norm_second"))
    return float(linear(x, w, "scoring.out")[0])


def attended(e: list[Array], w: Weights, width: int, name: str = "attention") -> Array:
    if not e:
        return np.zeros(width)
    weights = softmax(np.array([(x @ w[f"{name}.map"]) @ w[f"{name}.query"] for x in e]))
    return np.asarray(sum(a * x for a, x in zip(weights, e, strict=True)))


def a2svd(items: list[int], w: Weights, config: dict[str, Any]) -> Array:
    side = config.get("side", [])
    return attended([vector(i, w, side) for i in items], w, len(vector(1, w, side)))


def gru4rec_deeprec(items: list[int], w: Weights, config: dict[str, Any]) -> Array:
    h = np.zeros(config.get("hidden", 40))
    for item in items:
        of_x = np.split(w["gru.weight_ih_l0"] @ vector(item, w, config.get("side", [])), 3)
        of_h = np.split(w["gru.weight_hh_l0"] @ h, 3)
        reset, update = sigmoid(of_x[0] + of_h[0]), sigmoid(of_x[1] + of_h[1])
        h = (1 - update) * np.tanh(of_x[2] + reset * of_h[2]) + update * h
    return h


def caser(items: list[int], w: Weights, config: dict[str, Any]) -> Array:
    outputs, e = [], [vector(i, w, config.get("side", [])) for i in items]
    images = [[x[:12] for x in e], [x[12:] for x in e]][: 2 if config.get("side") else 1]
    for place, image in enumerate(images):
        name, n = f"images.{place}", len(image)
        vertical = w[f"{name}.vertical_bias"].copy()
        for t, x in enumerate(image):
            vertical += x @ w[f"{name}.vertical"][config["length"] - n + t]
        outputs.append(relu(vertical))
        for size in range(1, config.get("windows", 3) + 1):
            kernel, bias = w[f"{name}.horizontal.{size - 1}.weight"], w[f"{name}.horizontal.{size - 1}.bias"]
            best = np.zeros(len(bias))
            for end in range(n):
                behaviours = range(max(0, end - size + 1), end + 1)
                window = bias + sum(kernel[:, :, size - 1 - end + t] @ image[t] for t in behaviours)
                best = np.maximum(best, window)
            outputs.append(best)
    return np.concatenate(outputs)


SLOW = {"a2svd": a2svd, "gru4rec_deeprec": gru4rec_deeprec, "caser": caser}


def awake(case: str) -> SequentialRecommender:
    """A model with larger vectors, and running statistics as after training."""
    model = build(case)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for name, tensor in model.named_buffers():
            if name.endswith("running_mean"):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        for name, weight in model.named_parameters():
            if name.startswith("vectors"):
                weight.mul_(5)
    return model


@pytest.mark.parametrize("case", CASES)
def test_scores_equal_the_slow_equations(case: str) -> None:
    model, (name, config) = awake(case), VARIANTS[case]
    w, rows = weights_of(model), histories(LENGTHS, seed=9)
    fast = scores_of(model, inputs_of(model, rows, [0] * len(rows))).numpy()
    for place, row in enumerate(rows):
        user = SLOW[name](row["items"].tolist(), w, config)
        slow = [head(user, vector(i, w, config.get("side", [])), w) + w["bias"][i] for i in range(1, ITEMS + 1)]
        np.testing.assert_allclose(fast[place], slow, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_histories_change_scores(case: str) -> None:
    model = awake(case)
    scores = scores_of(model, inputs_of(model, histories([3, 6]), [0, 0]))
    assert not torch.allclose(scores[0], scores[1], atol=1e-3)


def reversed_history(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    model, row = awake(case), histories([6], seed=2)[0]
    backwards: dict[str, NDArray[np.int64]] = row | {"items": row["items"][::-1].copy()}
    scores = scores_of(model, inputs_of(model, [row, backwards], [0, 0]))
    return scores[0], scores[1]


def test_a2svd_is_blind_to_order() -> None:
    torch.testing.assert_close(*reversed_history("a2svd"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ["gru4rec-deeprec", "caser", "sli-rec"])
def test_the_others_read_order(case: str) -> None:
    assert not torch.allclose(*reversed_history(case), atol=1e-3)


def test_batch_normalisation_goes_over_all_candidates_of_the_batch() -> None:
    model = build("a2svd").train()
    inputs = inputs_of(model, histories([3, 8]), [0, 0])
    before = model.get_buffer("scoring.norm_first.running_mean").clone()
    model.loss(TrainingBatch(inputs, torch.tensor([4, 5]), torch.tensor([[7, 8], [9, 10]])))
    with torch.no_grad():
        state, w = model.encode(inputs).state["user"], weights_of(model)
        items = torch.tensor([[4, 7, 8], [5, 9, 10]])
        shares = torch.tensor(w["vectors.items.weight"][items] @ w["scoring.candidate.weight"].T).float()
        mean = (state[:, None] + shares).flatten(0, 1).mean(dim=0)
    after = model.get_buffer("scoring.norm_first.running_mean")
    torch.testing.assert_close(after, 0.9 * before + 0.1 * mean, rtol=1e-4, atol=1e-5)


def fcn(x: Array, w: Weights, name: str) -> float:
    return float(linear(relu(linear(x, w, f"{name}.1")), w, f"{name}.3")[0])


def days(milliseconds: int) -> float:
    return float(np.log(max(milliseconds / 86_400_000, 0.5)))


def time4lstm(x: list[Array], near: list[float], far: list[float], w: Weights, n: int) -> list[Array]:
    h, c, states = np.zeros(n), np.zeros(n), []
    for x_t, tn, tf in zip(x, near, far, strict=True):
        a_n = np.tanh(linear(np.array([tn]), w, "lstm.near"))
        a_l = np.tanh(linear(np.array([tf]), w, "lstm.far"))
        gate_n = sigmoid(linear(np.concatenate((x_t, a_n)), w, "lstm.near_gate"))
        gate_l = sigmoid(linear(np.concatenate((x_t, a_l)), w, "lstm.far_gate"))
        both = np.concatenate((w["lstm.gates.weight"], w["lstm.recurrent.weight"]), axis=1)
        i, f, o, j = np.split(both @ np.concatenate((x_t, h)) + w["lstm.gates.bias"], 4)
        o = o + w["lstm.output.weight"][:, :n] @ a_n + w["lstm.output.weight"][:, n:] @ a_l
        c = sigmoid(f) * gate_l * c + sigmoid(i) * gate_n * np.tanh(j)  # the bias of f includes the 1
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return states


def sli_rec_score(row: dict[str, NDArray[np.int64]], now: int, item: int, w: Weights, side: list[str]) -> float:
    items, times, t = row["items"].tolist(), row["times"].tolist(), vector(item, w, side)
    e, n = [vector(i, w, side) for i in items], len(t)
    near = [days(now - time) for time in times]
    far = [days(following - times[0]) for following in [*times[1:], now]] if times else []
    h, long, short = time4lstm([x[:12] for x in e], near, far, w, n), attended(e, w, n, "long"), np.zeros(n)
    if h:
        logits = []
        product, key = w["short.of_product.weight"], w["short.of_key.weight"]
        query = w["short.of_query.weight"]
        for state in h:
            a = linear(state, w, "short.map")  # W [a; q; a-q; a(x)q] with Wd = 0: its share is in the other two
            first = np.concatenate((key, query, 0 * key, product), axis=1)
            hidden = relu(first @ np.concatenate((a, t, a - t, a * t)) + w["short.of_key.bias"])
            logits.append(linear(relu(linear(hidden, w, "short.second")), w, "short.out")[0])
        weights = softmax(np.array(logits))
        short = np.asarray(sum(b * state for b, state in zip(weights, h, strict=True)))
    mixed = linear(np.concatenate((long, near[-1:] or [0.0])), w, "mix_user")
    mixed = mixed + w["mix_pair.weight"] @ np.concatenate((t, short))
    alpha = sigmoid(fcn(relu(mixed), w, "mix"))
    return head(alpha * long + (1 - alpha) * short, t, w) + float(w["bias"][item])


def spread(lengths: list[int]) -> list[dict[str, NDArray[np.int64]]]:
    """Histories whose gaps are days, so that no time is at its floor."""
    rows = histories(lengths, seed=9)
    return [row | {"times": 10**12 + 20 * (row["times"] - 10**12)} for row in rows]


@pytest.mark.parametrize("case", ["sli-rec", "sli-rec-bias-side"])
def test_sli_rec_equals_the_slow_equations(case: str) -> None:
    model, side = awake(case), VARIANTS[case][1].get("side", [])
    w, rows = weights_of(model), spread(LENGTHS)
    inputs = inputs_of(model, rows, [0] * len(rows))
    fast = scores_of(model, inputs).numpy()
    for place, row in enumerate(rows):
        now = int(inputs["request_time"][place])
        slow = [sli_rec_score(row, now, item, w, side) for item in range(1, ITEMS + 1)]
        np.testing.assert_allclose(fast[place], slow, rtol=2e-4, atol=2e-5)


def test_the_forget_gate_starts_one_higher() -> None:
    bias = torch.stack([Time4LSTM(12, 40).gates.bias.detach().view(4, 40).mean(dim=1) for _ in range(5)]).mean(dim=0)
    torch.testing.assert_close(bias, torch.tensor([0.0, 1.0, 0.0, 0.0]), atol=0.2, rtol=0)


def test_days_are_floored_at_half_a_day_and_differences_are_whole_numbers() -> None:
    gaps = torch.tensor([-5, 0, 43_200_000, 86_400_000, 864_000_000])
    torch.testing.assert_close(log_days(gaps), torch.log(torch.tensor([0.5, 0.5, 0.5, 1.0, 10.0])))
    model = awake("sli-rec")
    row = spread([5])[0]
    late = row | {"times": row["times"] + 10**15}  # float32 would round such times to minutes or more
    inputs = inputs_of(model, [row, late], [0, 0])
    torch.testing.assert_close(*scores_of(model, inputs), rtol=1e-4, atol=1e-5)


def test_the_time_of_a_request_changes_scores() -> None:
    model = awake("sli-rec")
    inputs = inputs_of(model, spread([5, 5]), [0, 0])
    inputs = {name: tensor[:1].repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in inputs.items()}
    inputs["request_time"] = inputs["request_time"] + torch.tensor([0, 90 * 86_400_000])
    assert not torch.allclose(*scores_of(model, inputs), atol=1e-4)


def test_lists_are_scored_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = awake("sli-rec")
    with torch.no_grad():
        state = model.encode(inputs_of(model, spread([3, 6]), [0, 0])).state
        lists = torch.randint(1, ITEMS + 1, (2, 11))
        whole = model.score_lists(state, lists)
        monkeypatch.setattr(sli_rec, "PAIRS", 3 * 2 * LENGTH)
        torch.testing.assert_close(model.score_lists(state, lists), whole)
