"""The experiment file of the demo: one A/B and one A/A experiment, in two layers, on all users."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from contract.experiments import TIME_FORMAT, parse_experiments

AB, AA = "simulated-ab", "simulated-aa"
ARMS: Final = ("control", "treatment")
LAYERS: Final = {AB: "rank", AA: "look"}
CONTROL, TREATMENT = "popularity", "pyramid_mixer"
METRICS: Final = ("active_days", "stay_duration", "playtime")
GUARDRAILS: Final = ("dislike",)


def write_experiments(path: Path, versions: Mapping[str, str], start: datetime, end: datetime) -> None:
    """Write the file.

    Args:
        path: where to.
        versions: of the bundles, by model.
        start: of both experiments.
        end: of both. The demo is over long before: its plan is a number of users.
    """
    document = experiments(versions, start, end)
    parse_experiments(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def experiments(versions: Mapping[str, str], start: datetime, end: datetime) -> dict[str, Any]:  # Any: YAML
    """Return the document; see `write_experiments`."""
    treatment = {"model": TREATMENT, "version": versions[TREATMENT]}
    layers = [
        {
            "key": LAYERS[AB],
            "salt": "simulated-rank",
            "defaults": {"model": CONTROL, "version": versions[CONTROL]},
            "experiments": [_experiment(AB, "ab", {}, treatment, start, end)],
        },
        {
            "key": LAYERS[AA],
            "salt": "simulated-look",
            "defaults": {"theme": "light"},
            "experiments": [_experiment(AA, "aa", {}, {}, start, end)],
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


def _experiment(
    key: str, kind: str, control: object, treatment: object, start: datetime, end: datetime
) -> dict[str, Any]:
    return {
        "key": key,
        "kind": kind,
        "salt": key,
        "status": "running",
        "start": start.astimezone(UTC).strftime(TIME_FORMAT),
        "end": end.astimezone(UTC).strftime(TIME_FORMAT),
        "owner": "experiment-demo",
        "slots": [[0, 10_000]],
        "arms": [
            {"key": "control", "buckets": [[0, 5_000]], "params": control},
            {"key": "treatment", "buckets": [[5_000, 10_000]], "params": treatment},
        ],
        "primary": list(METRICS),
        "guardrails": list(GUARDRAILS),
    }
