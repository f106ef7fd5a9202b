"""The bars: what the service must reach, what it reached, and by how much it passes or misses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.figures import median, ratio
from benchmarks.markdown import table as markdown_table

PEERS: Final = "make bench-peers"
SERVICE: Final = "make bench"
_TUNED: Final = {"mosec": ("mosec", "mosec_2")}  # the best of them counts, figure by figure

Document = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Bar:
    """A bound and what was measured.

    Attributes:
        title: what is compared.
        bound: the number to reach.
        is_least: whether the bound is the least that is allowed; else the most.
        value: what was measured; NaN if it was not.
        command: what measures it.
        unit: of both numbers.
    """

    title: str
    bound: float
    is_least: bool
    value: float
    command: str
    unit: str = "x"

    @property
    def is_reached(self) -> bool:
        """Return whether the measured value keeps the bound."""
        return self.value >= self.bound if self.is_least else self.value <= self.bound

    @property
    def verdict(self) -> str:
        """Return `reached` or `missed` with the distance in percent of the bound."""
        if math.isnan(self.value):
            return "not measured"
        word = "reached" if self.is_reached else "missed"
        if not self.bound:
            return word
        return f"{word} by {100 * abs(self.value - self.bound) / self.bound:.0f}%"


def paired(rounds: Sequence[Document], ours: str, theirs: Sequence[str], connections: str, figure: str) -> float:
    """Return the median over rounds of the ratio of our figure to the best of a peer's, tuned in one or more ways."""
    best = max if figure == "rate" else min

    def at(found: Document, name: str) -> float:
        return _at(found, (name, "closed", connections, figure))

    def of_round(found: Document) -> float:
        values = [value for name in theirs if not math.isnan(value := at(found, name))]
        return ratio(at(found, ours), best(values)) if values else math.nan

    return median([of_round(found) for found in rounds])


def of_peers(document: Document) -> list[Bar]:
    """Return the bars that compare the service with its peers."""
    rounds = document["rounds"]

    def bar(title: str, bound: float, is_least: bool, ours: str, theirs: str, figure: str, connections: str) -> Bar:
        names = _TUNED.get(theirs, (theirs,))
        return Bar(title, bound, is_least, paired(rounds, ours, names, connections, figure), PEERS)

    rate, at = "rate", "requests/s at 32 connections"
    return [
        bar(f"state cache on against plain FastAPI, {at}", 4.5, True, "ours", "fastapi", rate, "32"),
        bar(f"state cache on against mosec, {at}", 1.6, True, "ours", "mosec", rate, "32"),
        bar(f"state cache off against plain FastAPI, {at}", 3.0, True, "ours_no_cache", "fastapi", rate, "32"),
        bar(f"state cache off against mosec, {at}", 1.15, True, "ours_no_cache", "mosec", rate, "32"),
        bar(f"two arms against one, {at}", 0.7, True, "ours_two_arms", "ours", rate, "32"),
        bar("p50 at 1 connection against plain FastAPI", 0.6, False, "ours", "fastapi", "p50_ms", "1"),
        bar("p50 at 1 connection against mosec", 0.25, False, "ours", "mosec", "p50_ms", "1"),
        bar("CPU a request against the ASGI echo, 32 connections", 2.8, False, "ours", "echo", "cpu_us", "32"),
        bar("the same, against an echo that writes an access line too", 2.8, False, "ours", "echo_log", "cpu_us", "32"),
    ]


def of_service(document: Document) -> list[Bar]:
    """Return the bars that the service is measured for without peers; sections that are missing are not measured."""
    return [
        *_costs(document),
        *_memory(document),
        *_overload(document),
    ]


def _costs(document: Document) -> list[Bar]:
    candidates, histories = document.get("candidates", {}), document.get("histories", {})
    catalogue = document.get("catalogue", {})

    def cpu(section: Document, one: str, other: str) -> float:
        return ratio(_at(section, (one, "median", "cpu_us")), _at(section, (other, "median", "cpu_us")))

    return [
        Bar("CPU of 2,000 candidates against 200", 10.0, False, cpu(candidates, "2000", "200"), SERVICE),
        Bar("CPU of 200 behaviours against 50, cache off", 1.1, False, cpu(histories, "200 off", "50 off"), SERVICE),
        Bar("CPU with 1,000,000 items against 1,349", 1.1, False, cpu(catalogue, "1000000", "1349"), SERVICE),
        Bar(
            "memory that 1,000,000 items add, in sizes of their table", 1.3, False,
            _at(catalogue, ("1000000", "tables_added")), SERVICE,
        ),
        Bar("start with 1,000,000 items", 5.0, False, _at(catalogue, ("1000000", "start_seconds")), SERVICE, " s"),
    ]  # fmt: skip


def _memory(document: Document) -> list[Bar]:
    grown = _at(document.get("memory", {}), ("grown_percent",))
    return [Bar("resident memory, second half of 300,000 new users", 1.0, False, grown, SERVICE, "% more")]


def _overload(document: Document) -> list[Bar]:
    overload = document.get("overload", {})

    def share(name: str) -> float:
        return _at(overload, ("share_of_peak", name))

    return [
        Bar("refusals at 0.9 of capacity", 0.0, False, _at(overload, ("refused_below",)), SERVICE, " of 1,000"),
        Bar("goodput at 2 x capacity, of the peak", 0.95, True, share("2"), SERVICE),
        Bar("goodput at 5 x capacity, of the peak", 0.9, True, share("5"), SERVICE),
        Bar("goodput at 10 x capacity, of the peak", 0.8, True, share("10"), SERVICE),
        Bar("normal again after 10 x capacity", 1.0, False, _at(overload, ("recovery_seconds",)), SERVICE, " s"),
    ]


def table(bars: Sequence[Bar]) -> list[str]:
    """Return the lines of a Markdown table."""
    rows = []
    for bar in bars:
        bound = f"{'at least' if bar.is_least else 'at most'} {bar.bound:g}{bar.unit}"
        value = "-" if math.isnan(bar.value) else f"{bar.value:.2f}{bar.unit}"
        rows.append((bar.title, bound, value, bar.verdict, f"`{bar.command}`"))
    return markdown_table(("Bar", "Must be", "Measured", "", "Command"), rows)


def _at(found: Any, path: Sequence[str]) -> float:
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return math.nan
        found = found[name]
    return float(found) if found is not None else math.nan
