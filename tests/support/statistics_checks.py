"""The two tail probabilities that the hash tests need, using only the standard library."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def chi_square_p(statistic: float, freedom: int) -> float:
    """Return the chance of a chi-square at least this large (regularised upper incomplete gamma function)."""
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:  # series for the lower tail
        term = total = 1 / a
        n = a
        while term > total * 1e-15:
            n += 1
            term *= x / n
            total += term
        return max(0.0, 1 - total * scale)
    b, c = x + 1 - a, 1e300  # continued fraction for the upper tail (Lentz)
    d = fraction = 1 / b
    for i in range(1, 10_000):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b)
        c = b + step / c
        fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return scale * fraction


def uniform_p(counts: NDArray[np.int64]) -> float:
    """Return the chi-square p of counts that should all be equal."""
    expected = counts.sum() / counts.size
    return chi_square_p(float(((counts - expected) ** 2 / expected).sum()), counts.size - 1)


def independent_p(table: NDArray[np.int64]) -> float:
    """Return the chi-square p of independence of a table's rows and columns."""
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return chi_square_p(float(((table - expected) ** 2 / expected).sum()), (table.shape[0] - 1) * (table.shape[1] - 1))


def kolmogorov_smirnov_p(values: Sequence[float]) -> float:
    """Return the p of values being uniform on 0-1 (Stephens' form of the limit, good from ten values on)."""
    ordered = np.sort(np.asarray(values))
    n = len(ordered)
    steps = np.arange(n)
    distance = float(max((ordered - steps / n).max(), ((steps + 1) / n - ordered).max()))
    scaled = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    return min(1.0, max(0.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 101))))
