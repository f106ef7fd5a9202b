"""The comparison with peers as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.figures import median
from benchmarks.markdown import table as markdown_table

Document = Mapping[str, Any]  # Any: JSON


def middle(document: Document, name: str, *path: str) -> float:
    """Return the median of a server's figure over the rounds; NaN if it was not measured."""
    return median(every(document, name, *path))


def every(document: Document, name: str, *path: str) -> list[float]:
    """Return a server's figure in every round that measured it."""
    values = []
    for found in document["rounds"]:
        value: Any = found.get(name)
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            values.append(float(value))
    return values


def condition_line(document: Document) -> str:
    """Return one line that names the machine, the versions and the load."""
    found = document["conditions"]
    versions = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    return (
        f"{found['cores']} cores ({found['processor']}), shared with the client and Redis; Python {found['python']}; "
        f"{versions}; commit {found['commit']}, {found['date']}."
    )


def table(document: Document) -> list[str]:
    """Return the table of all servers at 1 and 32 connections, with its conditions."""
    rounds = len(document["rounds"])
    lines = [
        f"Medians of {rounds} interleaved rounds; {document['conditions']['candidates']} candidates; one process of "
        "each server; `wrk` closed loop; the same bundle, Redis and requests; items and scores equal byte for byte.",
        condition_line(document),
        "",
    ]
    columns = (
        "Server", "requests/s at 32 connections", "CPU us a request", "p50 at 1 connection, ms", "p99 at 32, ms", "MiB",
    )  # fmt: skip
    rows = []
    for name, title in document["titles"].items():
        if name in document["failed"]:
            rows.append([title, _short(document["failed"][name]), "", "", "", ""])
            continue
        cells = [
            _number(middle(document, name, "closed", "32", "rate"), 0),
            _number(middle(document, name, "closed", "32", "cpu_us"), 0),
            _number(middle(document, name, "closed", "1", "p50_ms"), 2),
            _number(middle(document, name, "closed", "32", "p99_ms"), 1),
            _number(middle(document, name, "proportional_mib"), 0),
        ]
        if name in _measured(document):
            rows.append([title, *cells])
    return [*lines, *markdown_table(columns, rows)]


def page(document: Document) -> list[str]:
    """Return the whole page: the table, the open loop, and the model's own cost."""
    lines = [
        "# The service beside other servers",
        "",
        f"`{document['conditions']['command']}`",
        "",
        *table(document),
        "",
    ]
    lines += ["![requests/s and CPU](peers.png)", "", *_open(document), "", *_loop(document), ""]
    return [*lines, *_checks(document)]


def _open(document: Document) -> list[str]:
    deadline = document["conditions"]["deadline_ms"]
    rates = sorted(
        {rate for found in document["rounds"] for one in found.values() for rate in one.get("open", {})}, key=float
    )
    lines = [
        "## Open loop",
        "",
        f"Poisson arrivals at a fixed mean rate; goodput is full answers within {deadline} ms of when they were due.",
        "",
    ]
    rows = []
    for name in _measured(document):
        cells = [
            f"{_number(middle(document, name, 'open', rate, 'goodput'), 0)}, "
            f"{_number(middle(document, name, 'open', rate, 'p99_ms'), 1)}"
            for rate in rates
        ]
        rows.append([document["titles"][name], *cells])
    lines += markdown_table(["Server", *(f"goodput, p99 ms at {float(rate):,.0f}/s" for rate in rates)], rows)
    shares = [middle(document, name, "open", rate, "generator_cores") for name in _measured(document) for rate in rates]
    late = [middle(document, name, "open", rate, "late_p99_ms") for name in _measured(document) for rate in rates]
    finite = [value for value in shares if math.isfinite(value)]
    if finite:
        lines += [
            "",
            f"The generator took at most {max(finite):.2f} of a core; "
            f"the slowest 1% of its requests left at most {max(late):.1f} ms late.",
        ]
    return lines


def _loop(document: Document) -> list[str]:
    lines = [
        "## Only the model",
        "",
        "CPU us a user in a bare loop around the two graphs, one thread, 200 candidates.",
        "",
    ]
    rows = [
        [batch, *(_number(middle(document, "onnx_loop", f"{graph}_{batch}"), 0) for graph in ("encode", "score"))]
        for batch in ("1", "8", "32")
    ]
    return [*lines, *markdown_table(("Batch", "encode", "score"), rows)]


def _checks(document: Document) -> list[str]:
    counts = {
        name: sum(found.get(name, {}).get("compared", 0) for found in document["rounds"]) for name in document["titles"]
    }
    compared = ", ".join(f"{document['titles'][name]} {count:,}" for name, count in counts.items() if count)
    lines = ["## Checks", "", f"Answers compared byte for byte with ours: {compared}."]
    refused = {name: middle(document, name, "closed", "32", "refused") for name in _measured(document)}
    lines += [
        f"{document['titles'][name]} refused {count:,.0f} requests of a closed loop."
        for name, count in refused.items()
        if count
    ]
    return [*lines, *(f"{name}: {why}" for name, why in document["failed"].items())]


def _measured(document: Document) -> list[str]:
    return [name for name in document["titles"] if any(name in found for found in document["rounds"])]


def _short(why: str) -> str:
    return why.split(":", 1)[0] if why.startswith("not installed") else "failed: see Checks"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


__all__: Sequence[str] = ["condition_line", "middle", "page", "table"]
