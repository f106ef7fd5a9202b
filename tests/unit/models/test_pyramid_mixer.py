"""Pyramid Mixer: its parts, its sizes, and what its switches leave out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.base import DatasetFacts
from models.catalog import MODELS
from models.checks.catalogue import histories, inputs_of, scores_of
from models.parts.features import gap_bins
from models.pyramid_mixer import CrossBehaviour, Halving, LowRank, PyramidMixer, PyramidMixerConfig
from tests.unit.models.cases import LENGTH, build


def four_fields(**config: Any) -> PyramidMixer:
    """A model of the published sizes: the item and three side fields."""
    fields = {name: np.zeros((6, 1), dtype=np.int64) for name in ("genres", "year", "title")}
    known = DatasetFacts(5, 3, np.ones(6, dtype=np.float32), fields, dict.fromkeys(fields, 2))
    model = MODELS["pyramid_mixer"].build({"side": list(fields)} | config, known)
    assert isinstance(model, PyramidMixer)
    return model


def network_parameters(model: PyramidMixer) -> int:
    """Count parameters as papers do: without embedding tables."""
    tables = sum(weight.numel() for weight in model.fields.parameters()) + model.bias.numel()
    return sum(weight.numel() for weight in model.parameters()) - tables


def multiply_adds(model: PyramidMixer) -> float:
    items = torch.ones((1, model.length), dtype=torch.int64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval().encode({"items": items})
    return counter.get_total_flops() / 2


def test_sizes_are_those_of_the_design() -> None:
    """1.04 M parameters and 28.2 M multiply-adds per user at the defaults with four fields; 1.14 M and 108 M at 200."""
    default, long = four_fields(), four_fields(length=200)
    assert network_parameters(default) == pytest.approx(1.04e6, rel=0.01)
    assert multiply_adds(default) == pytest.approx(28.2e6, rel=0.005)
    assert network_parameters(long) == pytest.approx(1.14e6, rel=0.015)
    assert multiply_adds(long) == pytest.approx(108e6, rel=0.005)


def test_low_rank_keeps_about_a_third_of_the_full_network() -> None:
    full = four_fields(low_rank=False)
    halvings = sum(weight.numel() for weight in full.halvings.parameters())
    low = sum(weight.numel() for weight in four_fields().halvings.parameters())
    assert network_parameters(full) == 2_912_149
    assert network_parameters(full) - halvings + low == pytest.approx(2.74e6, rel=0.01)  # with halvings kept low rank


def test_a_low_rank_product_starts_with_the_variance_of_xavier() -> None:
    torch.manual_seed(0)
    for inputs, outputs, rank in ((128, 256, 8), (200, 100, 64), (64, 64, 0)):
        product = torch.stack([_product(LowRank(inputs, outputs, rank)) for _ in range(8)])
        assert product.var().item() == pytest.approx(2 / (inputs + outputs), rel=0.06)


def _product(layer: LowRank) -> torch.Tensor:
    with torch.no_grad():
        return torch.linalg.multi_dot(list(layer.factors)) if len(layer.factors) > 1 else layer.factors[0].clone()


def test_period_weights_are_a_distribution_over_short_middle_and_long() -> None:
    for case in ("pm", "pm-window-concat"):
        model = build(case)
        weights = model.encode(inputs_of(model, histories([0, 1, LENGTH]), [0, 0, 0])).explanation["period_weights"]
        assert weights.shape == (3, 3)
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("case", ["pm-side", "pm-window-concat"])
def test_an_empty_history_is_the_bias_of_the_last_norm(case: str) -> None:
    model = build(case)
    assert isinstance(model, PyramidMixer)
    assert model.periods is not None
    state = model.encode(inputs_of(model, histories([0, 4]), [0, 0])).state
    torch.testing.assert_close(state["user"][0], model.periods.norm.bias)


def test_the_newest_behaviour_is_always_in_the_last_pair() -> None:
    halving = Halving(PyramidMixerConfig(length=4, width=2), 2)
    with torch.no_grad():
        for weight in halving.parameters():
            weight.zero_()
    x = torch.tensor([[[0.0, 0.0], [2.0, 4.0], [6.0, 8.0], [8.0, 10.0]]])
    mask = torch.tensor([[[0.0], [1.0], [1.0], [1.0]]])
    halved, kept = halving(x, mask)
    assert halved.tolist() == [[[2.0, 4.0], [7.0, 9.0]]]
    assert kept.tolist() == [[[1.0], [1.0]]]


def test_causal_mixing_sees_no_later_behaviour() -> None:
    torch.manual_seed(0)
    mixer = CrossBehaviour(PyramidMixerConfig(length=LENGTH, width=4, causal=True), 2, LENGTH)
    u = torch.randn(1, LENGTH, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(mixer(u)[0, 3].sum(), u)
    seen = gradient[0].abs().sum(dim=-1) > 0
    assert seen.tolist() == [True] * 4 + [False] * (LENGTH - 4)


def test_window_pyramid_reads_only_the_newest_behaviours_at_the_short_scale() -> None:
    model = build("pm-window-concat")
    assert isinstance(model, PyramidMixer)
    assert model.lengths == [LENGTH // 4, LENGTH // 2, LENGTH]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, 1), (1, 2), (2, 2), (3, 3), (6, 3), (7, 4), (2**20 - 1, 21), (2**20 - 2, 20)]
)
def test_time_gaps_fall_into_bins_of_doubling_width(seconds: int, expected: int) -> None:
    ids = torch.tensor([[0, 4, 5]])
    times = torch.tensor([[0, 10**12, 10**12 + 1000 * seconds + 999]])
    assert gap_bins(ids, times).tolist() == [[0, 0, expected]]


def test_a_clock_that_runs_backwards_and_a_gap_of_a_century_stay_in_the_table() -> None:
    ids = torch.tensor([[1, 2, 3]])
    assert gap_bins(ids, torch.tensor([[10**12, 10**11, 10**14]])).tolist() == [[0, 1, 32]]


def test_ratings_and_gaps_change_scores_where_they_are_fields() -> None:
    model = build("pm-side-grouped")
    inputs = inputs_of(model, histories([6]), [0])
    before = scores_of(model, inputs)
    for changed in ({"values": inputs["values"].flip(1)}, {"times": inputs["times"] * 3}):
        assert not torch.allclose(scores_of(model, inputs | changed), before, atol=1e-5)


def test_out_side_gives_items_of_one_kind_a_common_part() -> None:
    model = build("pm-side-grouped")
    assert isinstance(model, PyramidMixer)
    with torch.no_grad():
        model.fields.items.weight.zero_()
        for feature in model.fields.side:
            codes = feature.get_buffer("codes")
            codes[7] = codes[3]
    vectors = model.fields.parts.candidates(torch.tensor([3, 7]))
    torch.testing.assert_close(vectors[0], vectors[1])
    assert vectors[0].abs().sum() > 0


def test_parts_that_are_switched_off_are_not_built() -> None:
    names = {
        case: ".".join(build(case).state_dict()) for case in ("pm", "pm-no-behaviour", "pm-no-feature", "pm-no-period")
    }
    assert ".behaviour." in names["pm"]
    assert ".behaviour." not in names["pm-no-behaviour"]
    assert ".gate." not in names["pm-no-behaviour"]
    assert ".feature." not in names["pm-no-feature"]
    assert "halvings" not in names["pm-no-period"]


def test_a_length_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        PyramidMixerConfig(length=50)


def test_a_side_field_that_the_data_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="'colour'"):
        four_fields(side=["colour"])
