"""FMLP-Rec against the Fourier transform of its paper, one row and one position at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.baselines.fmlp import FMLP, Filter
from models.checks.catalogue import histories, inputs_of, scores_of
from tests.unit.models.cases import LENGTH, build
from tests.unit.models.slow import ACTIVATIONS, Array, Weights, linear, norm, weights_of


def feed_forward(x: Array, w: Weights, name: str, activation: str) -> Array:
    return linear(ACTIVATIONS[activation](linear(x, w, f"{name}.0")), w, f"{name}.2")


def filtered(x: Array, spectrum: Array) -> Array:
    """The paper's layer, in numpy's transform with the orthonormal scale that the authors use."""
    filters = spectrum[..., 0] + 1j * spectrum[..., 1]
    spectra = np.fft.rfft(x, axis=0, norm="ortho")
    return np.asarray(np.fft.irfft(filters * spectra, n=len(x), axis=0, norm="ortho"))


def slow_user(model: FMLP, items: NDArray[np.int64]) -> Array:
    w = weights_of(model)
    T, act = model.length, model.config.activation
    items = items[-T:]
    x, real = np.zeros((T, model.config.width)), range(T - len(items), T)
    for t, item in zip(real, items, strict=True):
        x[t] = norm(w["items.weight"][item] + w["positions"][t], w, "norm")
    for number in range(model.config.blocks):
        block = f"blocks.{number}"
        mixed, y = filtered(x, w[f"{block}.filter.spectrum"]), np.zeros_like(x)
        for t in real:
            y[t] = norm(x[t] + mixed[t], w, f"{block}.norm_filter")
            y[t] = norm(y[t] + feed_forward(y[t], w, f"{block}.inner", act), w, f"{block}.norm_inner")
        x = y
    return x[-1]


@pytest.mark.parametrize("case", ["fmlp", "fmlp-bias", "fmlp-odd-length"])
def test_scores_equal_the_slow_equations(case: str) -> None:
    model = build(case)
    assert isinstance(model, FMLP)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("spectrum"):
                weight.mul_(10)  # large enough that the filters count
    rows = histories([0, 1, 5, LENGTH], seed=9)
    fast = scores_of(model, inputs_of(model, rows, [1, 2, 3, 4])).numpy()
    table, bias = model.items.weight.detach().double().numpy(), model.bias.detach().double().numpy()
    for place, row in enumerate(rows):
        slow = table[1:] @ slow_user(model, row["items"]) + bias[1:]
        np.testing.assert_allclose(fast[place], slow, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 49, 50, 200])
def test_constant_matrices_and_the_turned_kernel_are_the_filter_of_the_paper(length: int) -> None:
    torch.manual_seed(length)
    layer, x = Filter(length, 4), torch.randn(3, length, 4)
    with torch.no_grad():
        layer.spectrum.mul_(50)
        whole, last = layer(x, last=False), layer(x, last=True)
    filters = torch.view_as_complex(layer.spectrum.detach())
    expected = torch.fft.irfft(filters * torch.fft.rfft(x, dim=1, norm="ortho"), n=length, dim=1, norm="ortho")
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, expected[:, -1:], rtol=1e-4, atol=1e-5)


def test_the_filters_gradient_is_that_of_the_transform() -> None:
    torch.manual_seed(1)
    layer, x, grown = Filter(9, 4), torch.randn(3, 9, 4), torch.randn(3, 9, 4)
    (ours,) = torch.autograd.grad((layer(x, last=False) * grown).sum(), layer.spectrum)
    spectra = torch.view_as_complex(layer.spectrum) * torch.fft.rfft(x, dim=1, norm="ortho")
    theirs = torch.autograd.grad((torch.fft.irfft(spectra, n=9, dim=1, norm="ortho") * grown).sum(), layer.spectrum)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_convolution_wraps_around() -> None:
    """The last position of a full sequence reads the oldest slots as if they came next: only it may be trained."""
    x = torch.randn(1, LENGTH, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(Filter(LENGTH, 4)(x, last=False)[0, 0].sum(), x)
    assert (gradient[0].abs().sum(dim=-1) > 0).all()  # position 0 sees every later one


def test_positions_of_padding_never_reach_a_score() -> None:
    model = build("fmlp")
    assert isinstance(model, FMLP)
    inputs = inputs_of(model, histories([3]), [1])
    before = scores_of(model, inputs)
    with torch.no_grad():
        model.positions[: LENGTH - 3] = 100.0
    torch.testing.assert_close(scores_of(model, inputs), before)
