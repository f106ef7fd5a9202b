"""Numbers as people read them."""

from __future__ import annotations

import pytest

from analysis import text


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0213, "+2.13%"), (-0.123, "−12.3%"), (0.00038, "+0.038%"), (0, "0.00%"), (1e-9, "0.000%"), (12.3, "+1,230.0%")],
)
def test_percentages(share: float, shown: str) -> None:
    assert text.percent(share) == shown


@pytest.mark.parametrize(
    ("p", "shown"), [(1.0, "1"), (0.0496, "0.050"), (0.001, "0.001"), (1.8e-6, "1.8e−6"), (0.0, "<1e−15")]
)
def test_p_values(p: float, shown: str) -> None:
    assert text.p_text(p) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(9_005.2, "9,005"), (0.03, "0.03"), (1.23456, "1.235"), (3e-6, "3.0e-06")]
)
def test_means(number: float, shown: str) -> None:
    assert text.value(number) == shown


@pytest.mark.parametrize(
    ("parts", "shown"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists(parts: list[str], shown: str) -> None:
    assert text.in_words(parts) == shown
