"""The allowed changes of an experiment file, so that no unit ever moves from one arm to another.

While an experiment runs, slots can be added, its ramp sped up or held, the end extended, secondary metrics added, the
owner changed, and it can be stopped. Any other change would move units between arms, or change the meaning of an arm,
after the first units were counted. A used key or salt can never be reused (history.py): an experiment that was stopped
or is over cannot start again, and a new one needs a new key and a new salt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from contract.experiments.definition import Experiment, ExperimentsConfig, Layer
from contract.experiments.history import MAX_DIGESTS, MAX_USED, ExperimentFile, State, Used
from contract.experiments.problems import Place, Problem
from contract.experiments.rule_ramps import rule_refusals
from contract.experiments.shares import reached
from contract.experiments.tracks import tracks_of

SLACK_MS: Final = 300_000
"""How far the clocks of replicas may differ: an experiment counts as running this long before its start and after its
end, because another replica may assign units by then."""

_FROZEN: Final[tuple[tuple[str, str], ...]] = (
    ("kind", "kind"),
    ("salt", "salt"),
    ("start", "start"),
    ("target", "target"),
    ("primary", "primary metrics"),
    ("guardrails", "guardrails"),
)


class Verdict(NamedTuple):
    """The verdict on a file: either problems, or the next state."""

    problems: tuple[Problem, ...]
    state: (
        State | None
    )  # `latest` and `tracks` have the versions that must not change; the caller adds those that it resolves now


def propose(state: State | None, file: ExperimentFile, now_ms: int) -> Verdict:
    """Check a new file against everything accepted before. Pure: no clock and no I/O.

    Args:
        state: the accepted state; None if nothing was accepted.
        file: the new file.
        now_ms: milliseconds since the epoch.
    """
    used = _used(state, now_ms)
    problems = tuple(_refusals(state, used, file.config, now_ms)) if state is not None else ()
    return Verdict(problems, None if problems else _next(state, used, file, now_ms))


def changes(old: ExperimentsConfig, new: ExperimentsConfig) -> list[str]:
    """Return the differences, one line per field, for the audit log."""
    before, after = _flat(old.model_dump(mode="json"), ""), _flat(new.model_dump(mode="json"), "")
    found = [f"+ {key} = {after[key]}" for key in after.keys() - before.keys()]
    found += [f"- {key} = {before[key]}" for key in before.keys() - after.keys()]
    found += [
        f"~ {key}: {before[key]} -> {after[key]}" for key in before.keys() & after.keys() if before[key] != after[key]
    ]
    return sorted(found, key=lambda line: line[2:])


def is_live(experiment: Experiment, now_ms: int, slack_ms: int = 0) -> bool:
    """Return whether an experiment assigns units at this time, or within the slack of it."""
    return _has_begun(experiment, now_ms + slack_ms) and not _is_over(experiment, now_ms - slack_ms)


def is_any_live(config: ExperimentsConfig, now_ms: int) -> bool:
    """Return whether any experiment of a file may assign units at this time on any replica."""
    return any(is_live(experiment, now_ms, SLACK_MS) for layer in config.layers for experiment in layer.experiments)


def _has_begun(experiment: Experiment, now_ms: int) -> bool:
    return experiment.status == "running" and experiment.start.timestamp() * 1000 <= now_ms


def _is_over(experiment: Experiment, now_ms: int) -> bool:
    return experiment.status == "stopped" or experiment.end.timestamp() * 1000 <= now_ms


def _used(state: State | None, now_ms: int) -> dict[str, Used]:
    """Return all used experiments, including those of the file in force that have started since it was accepted."""
    return {**state.used, **_used_by(state.file.config, now_ms)} if state is not None else {}


def _used_by(config: ExperimentsConfig, now_ms: int) -> dict[str, Used]:
    return {
        experiment.key: Used(layer=layer.key, salt=experiment.salt)
        for layer in config.layers
        for experiment in layer.experiments
        if experiment.status == "stopped" or _has_begun(experiment, now_ms + SLACK_MS)
    }


def _next(state: State | None, used: Mapping[str, Used], file: ExperimentFile, now_ms: int) -> State:
    holdout, named = file.config.holdout, tracks_of(file.config)
    return State(
        revision=state.revision + 1 if state is not None else 1,
        file=file,
        # While an experiment runs, "latest" keeps its version: an arm must not change its model.
        latest=state.latest if state is not None and is_any_live(state.file.config, now_ms) else {},
        used={**used, **_used_by(file.config, now_ms)},
        layers={**(state.layers if state is not None else {}), **{one.salt: one.key for one in file.config.layers}},
        holdouts=(state.holdouts if state is not None else frozenset()) | ({holdout.salt} if holdout else set()),
        # A promotion moves a track, an edit of the file does not.
        tracks={
            name: version for name, version in (state.tracks if state is not None else {}).items() if name in named
        },
        digests=((*state.digests, file.digest) if state is not None else (file.digest,))[-MAX_DIGESTS:],
    )


def _refusals(state: State, used: Mapping[str, Used], new: ExperimentsConfig, now_ms: int) -> Iterator[Problem]:
    old = state.file.config
    running = _keys_that_go_on(old, new, now_ms)
    layers = {layer.key: (place, layer) for place, layer in enumerate(new.layers)}
    for layer in old.layers:
        if layer.key in layers and any(one.key in running for one in layer.experiments):
            yield from _layer_refusals(layer, *layers[layer.key])
    yield from rule_refusals(old, new, running)
    yield from _removals(old, new, now_ms)
    for place, layer in enumerate(new.layers):
        yield from _layer_salt_refusals(state, used, layer, ("layers", place, "salt"))
        for index, experiment in enumerate(layer.experiments):
            where = ("layers", place, "experiments", index)
            yield from _experiment_refusals(state, used, layer, experiment, where, now_ms)
    yield from _global_refusals(state, used, new, bool(running))
    yield from _override_refusals(old, new)
    if len({**used, **_used_by(new, now_ms)}) > MAX_USED:
        yield Problem(f"layers: {MAX_USED} experiments were used: the state cannot remember more", ("layers",))


def _keys_that_go_on(old: ExperimentsConfig, new: ExperimentsConfig, now_ms: int) -> frozenset[str]:
    """Return the experiments that assign units now and are not stopped by the new file."""
    stopped = {one.key for layer in new.layers for one in layer.experiments if one.status == "stopped"}
    return frozenset(
        one.key
        for layer in old.layers
        for one in layer.experiments
        if is_live(one, now_ms, SLACK_MS) and one.key not in stopped
    )


def _removals(old: ExperimentsConfig, new: ExperimentsConfig, now_ms: int) -> Iterator[Problem]:
    kept = {one.key for layer in new.layers for one in layer.experiments}
    for layer in old.layers:
        for one in layer.experiments:
            if is_live(one, now_ms, SLACK_MS) and one.key not in kept:
                yield Problem(
                    f"{layer.key}.{one.key}: a running experiment cannot be removed: set its status to stopped",
                    ("layers",),
                )


def _layer_refusals(old: Layer, place: int, new: Layer) -> Iterator[Problem]:
    where = ("layers", place)
    if old.salt != new.salt:
        text = f"{old.key}: salt of a layer cannot change while an experiment runs in it"
        yield Problem(text, (*where, "salt"))
    for name, value in old.defaults.items():
        if name not in new.defaults or new.defaults[name] != value:
            text = f"{old.key}: default {name} is part of what running arms serve and cannot change"
            yield Problem(text, (*where, "defaults", name))


def _layer_salt_refusals(state: State, used: Mapping[str, Used], layer: Layer, where: Place) -> Iterator[Problem]:
    owner = state.layers.get(layer.salt)
    if owner is not None and owner != layer.key:
        yield Problem(f"{layer.key}: salt {layer.salt} was used by layer {owner}", where)
    elif layer.salt in state.holdouts or layer.salt in {one.salt for one in used.values()}:
        yield Problem(f"{layer.key}: salt {layer.salt} was used before, and not by this layer", where)


def _experiment_refusals(
    state: State, used: Mapping[str, Used], layer: Layer, new: Experiment, where: Place, now_ms: int
) -> Iterator[Problem]:
    name = f"{layer.key}.{new.key}"
    before = used.get(new.key)
    if before is None:
        yield from _salt_refusals(state, used, name, new.salt, (*where, "salt"))
        return
    old = _experiment(state.file.config, new.key)
    if before.layer != layer.key:
        yield Problem(f"{name}: an experiment of layer {before.layer} has this key: use a new key", (*where, "key"))
    elif old is None:
        text = f"{name}: an experiment with this key has run and was removed: use a new key and salt"
        yield Problem(text, (*where, "key"))
    else:
        yield from _frozen_refusals(name, old, new, where)
        yield from _course_refusals(name, old, new, where, now_ms)


def _salt_refusals(state: State, used: Mapping[str, Used], name: str, salt: str, where: Place) -> Iterator[Problem]:
    owner = next((key for key, one in used.items() if one.salt == salt), None)
    if owner is not None:
        yield Problem(f"{name}: salt {salt} was used by experiment {owner}: its units would stay together", where)
    elif salt in state.layers or salt in state.holdouts:
        yield Problem(f"{name}: salt {salt} was used by a layer or a holdout", where)


def _frozen_refusals(name: str, old: Experiment, new: Experiment, where: Place) -> Iterator[Problem]:
    """Return changes that are forbidden from the first unit on, also when the experiment is over."""
    for field, words in _FROZEN:
        if getattr(old, field) != getattr(new, field):
            yield Problem(f"{name}: {words} cannot change once it runs", (*where, field))
    if _arms(old) != _arms(new):
        yield Problem(f"{name}: arms, their ranges and params cannot change once it runs", (*where, "arms"))
    if not set(old.secondary) <= set(new.secondary):
        yield Problem(f"{name}: secondary metrics can only be added once it runs", (*where, "secondary"))


def _course_refusals(name: str, old: Experiment, new: Experiment, where: Place, now_ms: int) -> Iterator[Problem]:
    """Return changes that would restart it, shorten it, or take units out of it."""
    if _is_over(old, now_ms - SLACK_MS):
        state = "stopped" if old.status == "stopped" else "finished"
        if new.status != "stopped" and (old.status == "stopped" or new.status == "draft" or old.end != new.end):
            field = "end" if old.end != new.end else "status"
            text = f"{name}: a {state} experiment cannot start again: use a new key and salt"
            yield Problem(text, (*where, field))
        return
    about = (now_ms - SLACK_MS, now_ms, now_ms + SLACK_MS)
    if new.status != "stopped" and any(reached(new.ramp, time) < reached(old.ramp, time) for time in about):
        yield Problem(f"{name}: the share of a ramp can only grow while it runs", (*where, "ramp"))
    for field, words, holds in _COURSE:
        if not holds(old, new):
            yield Problem(f"{name}: {words}", (*where, field))


def _global_refusals(
    state: State, used: Mapping[str, Used], new: ExperimentsConfig, any_running: bool
) -> Iterator[Problem]:
    old = state.file.config
    if any_running and old.unit != new.unit:
        yield Problem("unit: cannot change while an experiment runs", ("unit",))
    if any_running and old.holdout != new.holdout:
        yield Problem("holdout: cannot change while an experiment runs", ("holdout",))
    elif new.holdout is not None and (old.holdout is None or old.holdout.salt != new.holdout.salt):
        salt = new.holdout.salt
        if salt in state.holdouts or salt in state.layers or salt in {one.salt for one in used.values()}:
            yield Problem(f"holdout: salt {salt} was used before: use a new salt", ("holdout", "salt"))


def _override_refusals(old: ExperimentsConfig, new: ExperimentsConfig) -> Iterator[Problem]:
    """Return new overrides without effect; those that a stop leaves behind may stay."""
    stopped = {one.key for layer in new.layers for one in layer.experiments if one.status == "stopped"}
    for unit, choices in new.overrides.units.items():
        known = old.overrides.units.get(unit, {})
        for layer, choice in choices.items():
            if choice.partition(":")[0] in stopped and known.get(layer) != choice:
                text = f"override {layer}={choice} names an arm of a stopped experiment"
                yield Problem(text, ("overrides", "units", unit, layer))


def _experiment(config: ExperimentsConfig, key: str) -> Experiment | None:
    return next((one for layer in config.layers for one in layer.experiments if one.key == key), None)


def _slots(experiment: Experiment) -> set[int]:
    return {slot for start, stop in experiment.slots for slot in range(start, stop)}


def _arms(experiment: Experiment) -> dict[str, tuple[set[int], dict[str, object]]]:
    return {
        arm.key: ({place for start, stop in arm.buckets for place in range(start, stop)}, dict(arm.params))
        for arm in experiment.arms
    }


_COURSE: Final[tuple[tuple[str, str, Callable[[Experiment, Experiment], bool]], ...]] = (
    ("status", "a running experiment can only continue or be stopped", lambda old, new: new.status != "draft"),
    (
        "slots",
        "slots can only be added while it runs",
        lambda old, new: new.status == "stopped" or _slots(old) <= _slots(new),
    ),
    ("end", "end can only be extended while it runs", lambda old, new: old.end <= new.end),
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
