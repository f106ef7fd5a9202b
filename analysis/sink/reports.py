"""The newest reports of experiments as gauges, so that dashboards show verdicts and lifts (docs/sink.md).

The files are read at each scrape and belong to another program: a file that cannot be read is counted and left out.
The number and size of series are bounded, for any content of the folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MAX_REPORTS: Final = 20
MAX_ROWS: Final = 50
MAX_ARMS: Final = 20
MAX_BYTES: Final = 4 * 1024 * 1024
MAX_TEXT: Final = 128  # of a label
STATES: Final = ("pass", "warn", "block", "unknown")  # of a gate; `analysis.verdict` would load scipy

FAMILIES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "ranker_report_info": ("1 for each report, with its verdict.", ("experiment", "verdict", "simulated")),
    "ranker_report_timestamp_seconds": ("Time when the report was written.", ("experiment",)),
    "ranker_report_users": ("Users of an arm.", ("experiment", "arm", "state")),
    "ranker_report_gates": ("Gates of the report, by their state.", ("experiment", "state")),
    "ranker_report_lift": (
        "Lift of a metric as a fraction, with the ends of its interval; absent while the report is not readable.",
        ("experiment", "arm", "metric", "role", "bound"),
    ),
    "ranker_report_unreadable": ("Files that are not reports, or are too large.", ()),
}


class Reports(Collector):
    """Exports the reports below a folder: `report.json` in it and in its folders.

    Args:
        folder: it need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges of the newest report of each experiment."""
        families = {name: GaugeMetricFamily(name, text, labels=labels) for name, (text, labels) in FAMILIES.items()}
        seen: set[str] = set()
        unreadable = 0
        for path in _newest(self._folder):
            try:
                samples = list(_samples(_read(path), path.stat().st_mtime))
            except (OSError, ValueError, TypeError, LookupError, AttributeError):
                unreadable += 1
                continue
            experiment = samples[0][1][0]
            if experiment not in seen:
                seen.add(experiment)
                for name, labels, value in samples:
                    families[name].add_metric(labels, value)
        families["ranker_report_unreadable"].add_metric((), unreadable)
        yield from families.values()


Sample = tuple[str, Sequence[str], float]


def _newest(folder: Path) -> list[Path]:
    found = [*folder.glob("report.json"), *folder.glob("*/report.json")]
    return sorted(found, key=_written, reverse=True)[:MAX_REPORTS]


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0  # removed since


def _read(path: Path) -> dict[str, Any]:  # Any: JSON
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("too large")
    document: dict[str, Any] = json.loads(path.read_bytes())
    if document["schema"] != 1:
        raise ValueError("another schema")
    return document


def _samples(report: dict[str, Any], written: float) -> Iterator[Sample]:
    experiment = _text(report["experiment"])
    verdict = report["verdict"]
    simulated = str(bool(report["simulated"])).lower()
    yield "ranker_report_info", (experiment, _text(verdict["kind"]), simulated), 1.0
    yield "ranker_report_timestamp_seconds", (experiment,), written
    for arm in report["arms"][:MAX_ARMS]:
        for state in ("exposed", "analysed"):
            yield "ranker_report_users", (experiment, _text(arm["arm"]), state), float(arm[state])
    states = Counter(gate["state"] for gate in report["gates"])
    for state in STATES:
        yield "ranker_report_gates", (experiment, state), float(states[state])
    if verdict["readable"]:
        for row in report["rows"][:MAX_ROWS]:
            yield from _lifts(experiment, row)


def _lifts(experiment: str, row: dict[str, Any]) -> Iterator[Sample]:
    """Yield the lift and its interval: early the one that is valid at every reading, as in the report."""
    if row["estimate"] is None:
        return
    limits = row["sequential"] or row["estimate"]
    labels = (experiment, _text(row["arm"]), _text(row["metric"]), _text(row["role"]))
    for bound, value in (
        ("low", limits["lift_low"]),
        ("point", row["estimate"]["lift"]),
        ("high", limits["lift_high"]),
    ):
        yield "ranker_report_lift", (*labels, bound), float(value)


def _text(value: str) -> str:
    return value[:MAX_TEXT].encode("utf-8", "replace").decode()  # without half characters
