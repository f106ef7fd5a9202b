"""The cost of the service, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.markdown import table
from benchmarks.report.peers import condition_line

Document = Mapping[str, Any]  # Any: JSON

_CLOSED: Final = {
    "rate": ("requests/s", 0), "cpu_us": ("CPU us a request", 0), "p50_ms": ("p50, ms", 2), "p99_ms": ("p99, ms", 1),
    "refused": ("refused in the run", 0), "resident_mib": ("resident, MiB", 0),
}  # fmt: skip
_OPEN: Final = {
    "offered": ("offered, per s", 0), "goodput": ("goodput, per s", 0), "refused": ("429, per s", 0),
    "too_late": ("504, per s", 0), "degraded": ("degraded, per s", 0), "other": ("lost, per s", 0),
    "p50_ms": ("p50, ms", 1), "p99_ms": ("p99, ms", 1), "generator_cores": ("generator, cores", 2),
    "late_p99_ms": ("sent late, p99 ms", 1),
}  # fmt: skip
_SECTIONS: Final = {
    "connections": ("Connections", "Closed loop, 200 candidates, state cache on.", "connections", _CLOSED),
    "modes": ("State cache and arms", "Closed loop, by mode and connections.", "mode, connections", _CLOSED),
    "histories": ("Stored behaviours", "Closed loop, 32 connections, state cache on and off.", "behaviours", _CLOSED),
    "candidates": ("Candidates", "Closed loop, 32 connections, a catalogue of 4,000 items.", "candidates", _CLOSED),
    "catalogue": ("Catalogue", "Closed loop, 32 connections, untrained bundles.", "items", _CLOSED),
    "rates": ("Offered rate", "Open loop, 150 ms, as shares of the capacity.", "share", _OPEN),
}

_BEYOND: Final = {
    "refused_p99_ms": ("p99 of refusals, ms", 1),
    "unsent": ("not sent/s", 0),
    "recovery_seconds": ("normal again after, s", 2),
}


def page(document: Document) -> list[str]:
    """Return the whole page."""
    lines = ["# Costs of the service", "", f"`{document['conditions']['command']}`", "", condition_line(document)]
    lines += ["", "Medians of the rounds of one run.", "", "![goodput and throughput](service.png)", ""]
    for name, (title, text, first, columns) in _SECTIONS.items():
        if name in document:
            lines += [f"## {title}", "", text, "", *_table(document[name], first, columns), ""]
            lines += _catalogue(document[name]) if name == "catalogue" else []
    for name, section in (("overload", _overload), ("stages", _stages), ("memory", _memory)):
        if name in document:
            lines += [*section(document[name]), ""]
    return [*lines, *(f"{name}: NOT MEASURED: {why}" for name, why in document["failed"].items())]


def summary(document: Document) -> list[str]:
    """Return the table of modes, for the README of the benchmarks."""
    lines = [condition_line(document), ""]
    if "modes" in document:
        lines += _table(document["modes"], "mode, connections", _CLOSED)
    return lines


def _table(found: Document, first: str, columns: Mapping[str, tuple[str, int]]) -> list[str]:
    rows = [
        [name, *(f"{one['median'].get(key, math.nan):,.{digits}f}" for key, (_, digits) in columns.items())]
        for name, one in found.items()
    ]
    return table([first, *(title for title, _ in columns.values())], rows)


def _catalogue(found: Document) -> list[str]:
    columns = ("items", "start, s", "memory (PSS), MiB", "item table, MiB", "added, in tables")
    rows = []
    for name, one in found.items():
        added = "" if one["tables_added"] is None else f"{one['tables_added']:.2f}"
        figures = (f"{one['start_seconds']:.1f}", f"{one['proportional_mib']:.0f}", f"{one['table_mib']:.1f}")
        rows.append((name, *figures, added))
    return [*table(columns, rows), ""]


def _overload(found: Document) -> list[str]:
    lines = [
        "## Overload",
        "",
        f"Open loop with a deadline of {found['deadline_ms']} ms. The capacity ({found['capacity']:,.0f}/s, median) "
        "is that of a closed loop at 32 connections right before each case; after each case half of it is offered for "
        "3 s. The generator keeps at most 1,000 connections; a request that finds none free is not sent.",
        "",
        *_table(found["factors"], "x capacity", {**_OPEN, **_BEYOND}),
    ]
    shares = ", ".join(f"{name} x: {share:.0%}" for name, share in found["share_of_peak"].items() if float(name) > 1)
    return [*lines, "", f"Goodput as a share of the peak, both as shares of the capacity: {shares}."]


def _stages(found: Document) -> list[str]:
    names = list(dict.fromkeys(name for one in found.values() for name in one))
    lines = ["## Stages", "", "Medians of `Server-Timing` in ms; `caller` is what a caller sees.", ""]
    rows = [[load, *(f"{one[name]:.2f}" if name in one else "" for name in names)] for load, one in found.items()]
    return [*lines, *table(["load", *names], rows)]


def _memory(found: Document) -> list[str]:
    return [
        "## Memory",
        "",
        f"{found['requests']:,} requests, each for a new user with a history: {found['third_quarter_mib']:.1f} MiB "
        f"resident in the third quarter, {found['last_quarter_mib']:.1f} in the last ({found['grown_percent']:+.2f}%).",
    ]


__all__: Sequence[str] = ["page", "summary"]
