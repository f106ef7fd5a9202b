"""Which edits of the experiment file are safe while an experiment runs: the ramp-without-reshuffle guarantee.

Allowed: add slots, extend the end, stop, add secondary metrics, change the owner. All else that touches a running
experiment would move units between arms, or change what an arm means, after the first of them were counted: it is
refused, and needs a new experiment key and salt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from contract.experiments import Experiment, ExperimentsConfig, Layer

_FROZEN: tuple[tuple[str, str], ...] = (
    ("kind", "kind"),
    ("salt", "salt"),
    ("start", "start"),
    ("target", "target"),
    ("primary", "primary metrics"),
    ("guardrails", "guardrails"),
)


def refusals(old: ExperimentsConfig, new: ExperimentsConfig, now_ms: int) -> list[str]:
    """Return why `new` may not replace `old` at this time; empty where it may."""
    return list(_refusals(old, new, now_ms))


def changes(old: ExperimentsConfig, new: ExperimentsConfig) -> list[str]:
    """Return what differs, one line per field, for the audit log."""
    before, after = _flat(old.model_dump(mode="json"), ""), _flat(new.model_dump(mode="json"), "")
    found = [f"+ {key} = {after[key]}" for key in after.keys() - before.keys()]
    found += [f"- {key} = {before[key]}" for key in before.keys() - after.keys()]
    found += [
        f"~ {key}: {before[key]} -> {after[key]}" for key in before.keys() & after.keys() if before[key] != after[key]
    ]
    return sorted(found, key=lambda line: line[2:])


def is_live(experiment: Experiment, now_ms: int) -> bool:
    """Say whether an experiment assigns units at this time, so that edits of it are restricted."""
    started = experiment.start.timestamp() * 1000 <= now_ms
    return experiment.status == "running" and started and now_ms < experiment.end.timestamp() * 1000


def _refusals(old: ExperimentsConfig, new: ExperimentsConfig, now_ms: int) -> Iterator[str]:
    layers = {layer.key: layer for layer in new.layers}
    any_live = False
    for layer in old.layers:
        live = [experiment for experiment in layer.experiments if is_live(experiment, now_ms)]
        any_live = any_live or bool(live)
        if live and layer.key in layers:
            yield from _layer_refusals(layer, layers[layer.key])
        for experiment in layer.experiments:
            yield from _stopped_refusals(layer, experiment, layers.get(layer.key))
        for experiment in live:
            yield from _live_refusals(layer, experiment, layers.get(layer.key))
    if any_live and old.unit != new.unit:
        yield "unit: cannot change while an experiment runs"
    if any_live and old.holdout != new.holdout:
        yield "holdout: cannot change while an experiment runs"


def _layer_refusals(old: Layer, new: Layer) -> Iterator[str]:
    if old.salt != new.salt:
        yield f"{old.key}: salt of a layer cannot change while an experiment runs in it"
    for name, value in old.defaults.items():
        if name not in new.defaults or new.defaults[name] != value:
            yield f"{old.key}: default {name} is part of what running arms serve and cannot change"


def _live_refusals(layer: Layer, old: Experiment, layer_now: Layer | None) -> Iterator[str]:
    place = f"{layer.key}.{old.key}"
    new = _experiment(layer_now, old.key)
    if new is None:
        yield f"{place}: a running experiment cannot be removed: set its status to stopped"
        return
    for field, words in _FROZEN:
        if getattr(old, field) != getattr(new, field):
            yield f"{place}: {words} cannot change while it runs"
    yield from (f"{place}: {words}" for words, holds in _RULES if not holds(old, new))


def _stopped_refusals(layer: Layer, old: Experiment, layer_now: Layer | None) -> Iterator[str]:
    new = _experiment(layer_now, old.key)
    if old.status == "stopped" and new is not None and new.status != "stopped":
        yield f"{layer.key}.{old.key}: a stopped experiment cannot start again: use a new key and salt"


def _experiment(layer: Layer | None, key: str) -> Experiment | None:
    return next((one for one in layer.experiments if one.key == key), None) if layer is not None else None


def _slots(experiment: Experiment) -> set[int]:
    return {slot for start, stop in experiment.slots for slot in range(start, stop)}


def _arms(experiment: Experiment) -> dict[str, tuple[set[int], dict[str, object]]]:
    return {
        arm.key: ({place for start, stop in arm.buckets for place in range(start, stop)}, dict(arm.params))
        for arm in experiment.arms
    }


_RULES: tuple[tuple[str, Callable[[Experiment, Experiment], bool]], ...] = (
    ("a running experiment can only go on or be stopped", lambda old, new: new.status != "draft"),
    (
        "slots can only be added while it runs",
        lambda old, new: new.status == "stopped" or _slots(old) <= _slots(new),
    ),
    ("end can only be extended while it runs", lambda old, new: old.end <= new.end),
    ("arms, their ranges and params cannot change while it runs", lambda old, new: _arms(old) == _arms(new)),
    (
        "secondary metrics can only be added while it runs",
        lambda old, new: set(old.secondary) <= set(new.secondary),
    ),
)


def _flat(node: object, place: str) -> dict[str, object]:
    """Return the leaves of a document by their path; lists of things with a key by that key."""
    if isinstance(node, dict):
        pairs = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and node and all(isinstance(one, dict) and "key" in one for one in node):
        pairs = [(str(one["key"]), one) for one in node]
    else:
        return {place: node}
    leaves: dict[str, object] = {}
    for key, value in pairs:
        leaves.update(_flat(value, f"{place}.{key}" if place else key))
    return leaves
