"""Layers in plain numpy, one vector at a time: what slow references are written with."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
Weights = dict[str, Array]


def weights_of(model: nn.Module) -> Weights:
    """Return all weights and buffers by name, in double precision."""
    return {name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()}


def linear(x: Array, w: Weights, name: str) -> Array:
    """Return the layer's product, plus its bias where it has one."""
    return np.asarray(w[f"{name}.weight"] @ x + w.get(f"{name}.bias", np.zeros(1)))


def norm(x: Array, w: Weights, name: str) -> Array:
    """Return a layer norm of one vector."""
    centred = x - x.mean()
    return np.asarray(centred / np.sqrt((centred**2).mean() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"])


def gelu(x: Array) -> Array:
    """Return x times the normal distribution's integral up to it."""
    return x * np.array([0.5 * (1 + erf(value / sqrt(2))) for value in x])


def silu(x: Array) -> Array:
    """Return x times its logistic function."""
    return np.asarray(x / (1 + np.exp(-x)))


def sigmoid(x: Array) -> Array:
    """Return the logistic function."""
    return np.asarray(1 / (1 + np.exp(-x)))


def softmax(x: Array) -> Array:
    """Return shares in proportion to the exponentials."""
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


ACTIVATIONS = {"gelu": gelu, "silu": silu}
