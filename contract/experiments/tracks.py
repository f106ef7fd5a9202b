"""The track that parameters name: a line of bundles of one model, whose promoted version is served (docs/adr/0233)."""

from __future__ import annotations

from typing import Final

from contract.experiments.definition import ExperimentsConfig
from contract.experiments.fields import Parameters
from contract.experiments.shadows import Shadow

TRACK: Final = "track"
"""The parameter; empty text names none."""
TRACK_PATTERN: Final = r"^[a-z][a-z0-9_-]{0,31}$"


def track_of(parameters: Parameters) -> str | None:
    """Return the track as `model/track`, or None if these parameters name none."""
    model, track = parameters.get("model"), parameters.get(TRACK)
    return f"{model}/{track}" if isinstance(model, str) and isinstance(track, str) and track else None


def tracks_of(config: ExperimentsConfig) -> frozenset[str]:
    """Return every track that a file may serve."""
    named = [track_of(layer.defaults) for layer in config.layers]
    named += [
        track_of({**layer.defaults, **arm.params})
        for layer in config.layers
        for one in layer.experiments
        if one.status != "stopped"
        for arm in one.arms
    ]
    named += [track_of(shadow.parameters) for shadow in shadows_of(config)]
    return frozenset(track for track in named if track is not None)


def shadows_of(config: ExperimentsConfig) -> list[Shadow]:
    """Return every shadow that a file may ask."""
    running = [one for layer in config.layers for one in layer.experiments if one.status != "stopped"]
    named = [*(layer.shadow for layer in config.layers), *(arm.shadow for one in running for arm in one.arms)]
    return [shadow for shadow in named if shadow is not None]
