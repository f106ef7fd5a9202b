"""One population under many salts: the arms of each, and the sums that every statistic is computed from.

The hash is that of the service. It takes most of the time, so each salt is hashed once for all metrics. A metric
needs sums over the units of an arm: one product of matrices gives them for all salts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tea_tasting.aggr import Aggregates

from analysis.proof.population import Column, Population
from contract.experiments.buckets import buckets
from contract.experiments.fields import BUCKETS

Arms = NDArray[np.bool_]
"""(salts, units): whether a unit is in the treatment."""

CHUNK: Final = 50  # salts that are hashed and multiplied together


def salt_of(number: int) -> str:
    """Return the salt of a replay."""
    return f"proof-{number:05d}"


def assign(population: Population, replays: Sequence[int]) -> Arms:
    """Return the arms of each replay: half of the buckets each."""
    found = [buckets(salt_of(number), "arm", population.units) >= BUCKETS // 2 for number in replays]
    return np.array(found).reshape(len(replays), len(population.units))


@dataclass(frozen=True)
class Sides:
    """Control and treatment of one metric in one replay."""

    control: Aggregates
    treatment: Aggregates


def sides(columns: Mapping[str, Column], arms: Arms) -> Iterator[Sides]:
    """Yield both arms' aggregates for each replay.

    Args:
        columns: of one metric, by the names that the aggregates get.
        arms: of the replays.
    """
    names = sorted(columns)
    shift = {name: float(columns[name].mean()) for name in names}
    centred = [columns[name] - shift[name] for name in names]  # so that no digits are lost in sums of squares
    pairs = [(one, other) for one in range(len(names)) for other in range(one, len(names))]
    table = np.column_stack([*centred, *(centred[one] * centred[other] for one, other in pairs)])
    sizes = np.count_nonzero(arms, axis=1)
    treated, total = arms.astype(np.float64) @ table, table.sum(axis=0)
    for size, sums in zip(sizes.tolist(), treated, strict=True):
        control = _aggregates(names, shift, pairs, arms.shape[1] - size, total - sums)
        yield Sides(control, _aggregates(names, shift, pairs, size, sums))


def _aggregates(
    names: Sequence[str], shift: Mapping[str, float], pairs: Sequence[tuple[int, int]], n: int, sums: Column
) -> Aggregates:
    means = sums[: len(names)] / n
    products = {
        (names[one], names[other]): (float(value) - n * float(means[one] * means[other])) / (n - 1)
        for (one, other), value in zip(pairs, sums[len(names) :], strict=True)
    }
    return Aggregates(
        n,
        {name: shift[name] + float(mean) for name, mean in zip(names, means, strict=True)},
        {one: value for (one, other), value in products.items() if one == other},
        {pair: value for pair, value in products.items() if pair[0] != pair[1]},
    )
