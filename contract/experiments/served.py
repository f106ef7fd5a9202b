"""The parts of an experiment file that the service can serve; a file with other parts is refused.

The format (definition.py) also allows planned features and data for other programs. If the service accepted a kind of
experiment that it cannot run, or a parameter that nothing reads, the experiment would have no treatment.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import Final, Literal, get_args

from contract.experiments.definition import Experiment, ExperimentsConfig, Layer
from contract.experiments.fields import Parameters
from contract.experiments.interleaving import ARMS, INTERLEAVED
from contract.experiments.problems import Place, Problem
from contract.experiments.rules import RULES
from contract.experiments.target_weights import TARGETS, weights_of
from contract.experiments.tracks import TRACK, TRACK_PATTERN

ColdWay = Literal["last", "prior", "interleave"]
COLD: Final = "cold"
COLD_WAYS: Final[tuple[ColdWay, ...]] = get_args(ColdWay)
"""The parameter that places candidates without a score, and its values (docs/cold-items.md)."""

MODEL_PARAMETERS: Final = frozenset({"model", "version", TRACK, COLD, TARGETS, RULES})
"""The parameters that the service reads; a layer without a model may have any parameters, for the caller to read."""

MAX_PARAMETERS: Final = 32
"""Maximum number of parameters of a layer; every answer contains them."""
MAX_INTEGER: Final = 2**53
"""The largest integer that every JSON reader represents exactly."""


def unserved(config: ExperimentsConfig) -> list[Problem]:
    """Return the parts of a file that the service cannot serve; empty if it can serve all of them."""
    return list(_unserved(config))


def _unserved(config: ExperimentsConfig) -> Iterator[Problem]:
    if not any("model" in layer.defaults for layer in config.layers):
        yield Problem(
            "layers: one layer must name a model in its defaults: otherwise nothing can be ranked", ("layers",)
        )
    for place, layer in enumerate(config.layers):
        where = ("layers", place)
        yield from _of_defaults(layer, (*where, "defaults"))
        if "model" in layer.defaults or config.rules:  # else the parameter is the caller's own
            yield from _of_rules(config.rules.keys(), layer, where)
        for index, experiment in enumerate(layer.experiments):
            yield from _of_experiment(layer, experiment, (*where, "experiments", index))


def _of_defaults(layer: Layer, where: Place) -> Iterator[Problem]:
    names_model = "model" in layer.defaults
    yield from _of_parameters(layer.key, layer.defaults, where, names_model=names_model)
    if layer.shadow is not None:
        yield from _of_shadow(layer, None, (*where[:-1], "shadow"))
    if len(layer.defaults) > MAX_PARAMETERS:
        yield Problem(f"{layer.key}: more than {MAX_PARAMETERS} params, and every answer contains them", where)
    for name, value in layer.defaults.items():
        place = (*where, name)
        if names_model and name not in MODEL_PARAMETERS:
            yield Problem(
                f"{layer.key}: nothing reads param {name}: a layer with a model has only model, version, track, "
                "cold, targets and rules; put it into a layer without a model, for the caller to read",
                place,
            )
        elif not names_model and name in {"version", TRACK}:
            yield Problem(f"{layer.key}: nothing reads param {name} in a layer without a model", place)
        elif names_model and not isinstance(value, str):
            yield Problem(f"{layer.key}: param {name} must be text: write it in quotes", place)


def _of_parameters(name: str, parameters: Parameters, where: Place, *, names_model: bool) -> Iterator[Problem]:
    if names_model and parameters.get(COLD, COLD_WAYS[0]) not in COLD_WAYS:
        yield Problem(f"{name}: param {COLD} must be {', '.join(COLD_WAYS[:-1])} or {COLD_WAYS[-1]}", (*where, COLD))
    if names_model:
        yield from _of_track(name, parameters, where)
        yield from _of_targets(name, parameters, where)
    for parameter, value in parameters.items():
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            yield Problem(f"{name}: param {parameter} is beyond 2^53: write it as text", (*where, parameter))


def _of_rules(known: Container[str], layer: Layer, where: Place) -> Iterator[Problem]:
    named = [(layer.key, layer.defaults, (*where, "defaults"))]
    for index, experiment in enumerate(layer.experiments):
        place = (*where, "experiments", index, "arms")
        named += [
            (f"{layer.key}.{experiment.key}:{arm.key}", arm.params, (*place, number, "params"))
            for number, arm in enumerate(experiment.arms)
        ]
    for name, parameters, place in named:
        chosen = parameters.get(RULES)
        if chosen and chosen not in known:
            yield Problem(
                f"{name}: param {RULES} {str(chosen)[:64]!r} is not a set of rules of this file", (*place, RULES)
            )


def _of_track(name: str, parameters: Parameters, where: Place) -> Iterator[Problem]:
    track = parameters.get(TRACK)
    if isinstance(track, str) and track and not re.fullmatch(TRACK_PATTERN, track):
        yield Problem(f"{name}: param {TRACK} {track[:64]!r} is not a name of a track", (*where, TRACK))
    if track and parameters.get("version"):
        yield Problem(f"{name}: give a version or a track, not both: a track decides the version", (*where, TRACK))


def _of_targets(name: str, parameters: Parameters, where: Place) -> Iterator[Problem]:
    text = parameters.get(TARGETS, "")
    if not isinstance(text, str):
        return  # the type is refused with the layer's defaults
    try:
        weights_of(text)
    except ValueError as error:
        yield Problem(f"{name}: param {TARGETS}: {error}", (*where, TARGETS))


def _of_experiment(layer: Layer, experiment: Experiment, where: Place) -> Iterator[Problem]:
    if experiment.kind == "interleave" and experiment.status != "stopped":
        yield from _of_interleaving(layer, experiment, where)
    for index, arm in enumerate(experiment.arms):
        if arm.shadow is not None:
            yield from _of_shadow(layer, experiment, (*where, "arms", index, "shadow"))
        name = f"{layer.key}.{experiment.key}:{arm.key}"
        place = (*where, "arms", index, "params")
        yield from _of_parameters(name, arm.params, place, names_model="model" in layer.defaults)
        if arm.params.get("version") and TRACK not in arm.params and layer.defaults.get(TRACK):
            text = f'{name}: the layer names a track, which decides the version: add track: ""'
            yield Problem(text, (*place, "version"))


def _of_shadow(layer: Layer, experiment: Experiment | None, where: Place) -> Iterator[Problem]:
    name = layer.key if experiment is None else f"{layer.key}.{experiment.key}"
    if "model" not in layer.defaults:
        yield Problem(f"{name}: only a layer with a model can have a shadow", where)
    elif experiment is not None and experiment.kind == "interleave":
        yield Problem(f"{name}: an interleaved ranking has no scores to compare a shadow with", where)


def _of_interleaving(layer: Layer, experiment: Experiment, where: Place) -> Iterator[Problem]:
    name, arms = f"{layer.key}.{experiment.key}", (*where, "arms")
    if "model" not in layer.defaults:
        yield Problem(f"{name}: only a layer with a model can interleave", (*where, "kind"))
    if len(experiment.arms) != ARMS:
        yield Problem(f"{name}: interleaving takes {ARMS} arms, not {len(experiment.arms)}", arms)
    elif len({tuple({**layer.defaults, **arm.params}.items()) for arm in experiment.arms}) == 1:
        yield Problem(f"{name}: both arms name the same model, so there is nothing to interleave", arms)
    if any(arm.key == INTERLEAVED for arm in experiment.arms):
        yield Problem(f"{name}: '{INTERLEAVED}' is the arm of the users, not of a model", arms)
