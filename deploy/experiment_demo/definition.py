"""The experiment file of the demo: one A/B and one A/A experiment, in two layers, on all users."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from contract.experiments.buckets import bucket
from contract.experiments.fields import BUCKETS, TIME_FORMAT
from contract.experiments.parse import parse_experiments

AB, AA, INTERLEAVED = "simulated-ab", "simulated-aa", "simulated-interleaved"
ARMS: Final = ("control", "treatment")
LAYERS: Final = {AB: "rank", AA: "look", INTERLEAVED: "rank"}
_ALL: Final = (0, BUCKETS)
_HALVES: Final = {AB: (0, BUCKETS // 2), INTERLEAVED: (BUCKETS // 2, BUCKETS)}  # slots, if the demo interleaves
_RANK_SALT: Final = "simulated-rank"
CONTROL, TREATMENT = "popularity", "pyramid_mixer"
METRICS: Final = ("active_days", "stay_duration", "playtime")
GUARDRAILS: Final = ("dislike",)


def write_experiments(
    path: Path, versions: Mapping[str, str], start: datetime, end: datetime, *, interleaves: bool = False
) -> None:
    """Write the file.

    Args:
        path: where to.
        versions: of the bundles, by model.
        start: of both experiments.
        end: of both. The demo is over long before: its plan is a number of users.
        interleaves: whether an experiment that interleaves takes half of the A/B experiment's slots.
    """
    document = experiments(versions, start, end, interleaves=interleaves)
    parse_experiments(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def planned(key: str, units: Iterable[str], *, interleaves: bool) -> int:
    """Return how many of these units are in an experiment."""
    start, stop = _slots(key, interleaves)
    return sum(start <= bucket(_RANK_SALT, "slot", unit) < stop for unit in units)


def experiments(
    versions: Mapping[str, str], start: datetime, end: datetime, *, interleaves: bool = False
) -> dict[str, Any]:  # Any: YAML
    """Return the document; see `write_experiments`."""
    treatment = {"model": TREATMENT, "version": versions[TREATMENT]}
    kinds = {AB: "ab", INTERLEAVED: "interleave"} if interleaves else {AB: "ab"}
    layers = [
        {
            "key": LAYERS[AB],
            "salt": _RANK_SALT,
            "defaults": {"model": CONTROL, "version": versions[CONTROL]},
            "experiments": [
                _experiment(key, kind, _slots(key, interleaves), treatment, start, end) for key, kind in kinds.items()
            ],
        },
        {
            "key": LAYERS[AA],
            "salt": "simulated-look",
            "defaults": {"theme": "light"},
            "experiments": [_experiment(AA, "aa", _ALL, {}, start, end)],
        },
    ]
    return {
        "schema": 1,
        "revision": "experiment-demo.1",
        "enabled": True,
        "unit": {"type": "user_id", "max_bytes": 128},
        "overrides": {"header_enabled": True, "units": {}},
        "layers": layers,
    }


def _slots(key: str, interleaves: bool) -> tuple[int, int]:
    return _HALVES.get(key, _ALL) if interleaves else _ALL


def _experiment(
    key: str, kind: str, slots: tuple[int, int], treatment: Mapping[str, str], start: datetime, end: datetime
) -> dict[str, Any]:
    return {
        "key": key,
        "kind": kind,
        "salt": key,
        "status": "running",
        "start": start.astimezone(UTC).strftime(TIME_FORMAT),
        "end": end.astimezone(UTC).strftime(TIME_FORMAT),
        "owner": "experiment-demo",
        "slots": [list(slots)],
        "arms": [
            {"key": "control", "buckets": [[0, 5_000]], "params": {}},
            {"key": "treatment", "buckets": [[5_000, 10_000]], "params": dict(treatment)},
        ],
        "primary": list(METRICS),
        "guardrails": list(GUARDRAILS),
    }
