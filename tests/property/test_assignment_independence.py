"""Uniformity by itself proves little: two known hashes that pass it tie unrelated experiments together.

Both stand here as fixtures that the test of independence must fail, or it could not find a fault in ours.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.experiments.buckets import bucket
from tests.support.statistics_checks import chi_square_p, independent_p, kolmogorov_smirnov_p, uniform_p

UNITS = 40_000
SALTS = [f"exp-{place}" for place in range(20)]
Hash = Callable[[str, str], int]  # (salt, unit) -> 0-9,999


def ours(salt: str, unit: str) -> int:
    return bucket(salt, "arm", unit)


def _fnv1a(text: str) -> int:
    value = 0x811C9DC5
    for octet in text.encode():
        value = (value ^ octet) * 0x01000193 & 0xFFFFFFFF
    return value


def growthbook_v1(salt: str, unit: str) -> int:
    """Known bad: weak mixing, unit first. Its authors replaced it."""
    return _fnv1a(unit + salt) % 1000 * 10


def caraml_xp(salt: str, unit: str) -> int:
    """Known bad: the formula of CaraML XP in its mod 10,000 form; low bits of FNV-1a barely mix what comes last."""
    return _fnv1a(f"{unit}-{salt}") % 10_000


def _buckets(hash_of: Hash, salts: list[str] = SALTS, units: int = UNITS) -> NDArray[np.int64]:
    names = [str(unit) for unit in range(units)]
    return np.array([[hash_of(salt, name) for name in names] for salt in salts])


@pytest.fixture(scope="module")
def our_buckets() -> NDArray[np.int64]:
    return _buckets(ours)


def _uniformities(buckets: NDArray[np.int64], cells: int = 100) -> list[float]:
    return [uniform_p(np.bincount(row * cells // 10_000, minlength=cells)) for row in buckets]


def _independences(buckets: NDArray[np.int64]) -> list[float]:
    tenths = buckets // 1000
    return [
        independent_p(np.bincount(first * 10 + second, minlength=100).reshape(10, 10))
        for first, second in combinations(tenths, 2)
    ]


def _is_even(ps: list[float]) -> bool:
    """Say whether p values look like those of a true hypothesis."""
    return kolmogorov_smirnov_p(ps) > 0.001 and min(ps) > 1e-6


def test_tail_probabilities_are_those_of_the_tables() -> None:
    assert chi_square_p(3.841459, 1) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_p(103.009509, 81) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_p(9_999, 9_999) == pytest.approx(0.498, abs=0.001)
    assert kolmogorov_smirnov_p([(place + 0.5) / 50 for place in range(50)]) == pytest.approx(1)
    assert kolmogorov_smirnov_p([place / 100 for place in range(50)]) < 1e-9


def test_every_bucket_is_as_likely_as_any_other() -> None:
    counts = np.bincount(_buckets(ours, ["feed-rank-2026a"], 200_000)[0], minlength=10_000)
    assert uniform_p(counts) > 1e-4


def test_our_hash_is_uniform_under_every_salt(our_buckets: NDArray[np.int64]) -> None:
    assert _is_even(_uniformities(our_buckets))


def test_our_experiments_are_independent_of_each_other(our_buckets: NDArray[np.int64]) -> None:
    assert _is_even(_independences(our_buckets))


def test_slot_and_arm_under_one_salt_are_independent() -> None:
    names = [str(unit) for unit in range(UNITS)]
    slots = np.array([bucket("one", "slot", name) for name in names]) // 1000
    arms = np.array([bucket("one", "arm", name) for name in names]) // 1000
    assert independent_p(np.bincount(slots * 10 + arms, minlength=100).reshape(10, 10)) > 1e-4


def test_random_long_ids_are_as_independent_as_sequential_ones() -> None:
    names = [sha256(str(unit).encode()).hexdigest()[:32] for unit in range(UNITS)]
    halves = np.array([[ours(salt, name) < 5000 for name in names] for salt in SALTS[:4]])
    # Two unrelated halves agree on half of the units; the standard error of 40,000 is 0.0025.
    for first, second in combinations(halves, 2):
        assert abs((first == second).mean() - 0.5) < 0.0125


@pytest.mark.parametrize("known_bad", [growthbook_v1, caraml_xp])
def test_known_bad_hash_passes_uniformity_and_fails_independence(known_bad: Hash) -> None:
    buckets = _buckets(known_bad, SALTS[:4])
    assert min(_uniformities(buckets, cells=10)) > 1e-6
    assert not _is_even(_independences(buckets))
    agreements = [((first < 5000) == (second < 5000)).mean() for first, second in combinations(buckets, 2)]
    assert max(abs(agreement - 0.5) for agreement in agreements) > 0.02
