"""The arm of a unit: one hash, and one pure function of snapshot, unit, attributes and time.

    bucket(salt, stage, unit) = first 8 bytes, big-endian, of SHA-256("salt.stage.unit"), mod 10,000

Each layer uses two independent hashes, one for the slot and one for the arm. So an experiment can be ramped up without
moving users, and layers are orthogonal. A salt cannot contain a dot, so the hashed text is injective even if the unit
contains one. Any other implementation must reproduce the vectors in tests/contract/vectors/assignment.json.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from contract.experiments.definition import Condition, Experiment, ExperimentsConfig, Layer
from contract.experiments.fields import BUCKETS, CONTROL, NO_ARM, Parameters, Scalar
from contract.experiments.interleaving import ARMS, INTERLEAVED
from contract.experiments.parse import parse_experiments

Stage = Literal["holdout", "slot", "arm"]
Reason = Literal[
    "split", "override", "holdout", "unallocated", "inactive", "not_targeted", "disabled", "no_unit",
    "not_ranked", "error",
]  # fmt: skip
"""The reason of a layer's decision; the last two mark answers without a decision: another route, an error."""

NOT_RANKED: Final = "not_ranked"
ERROR: Final = "error"
NO_SNAPSHOT_HEADER: Final = "none;r=error"
"""The header before any experiment file was accepted; no layer can have the key `none`."""

HOLDOUT: Final = "_holdout"
"""The name of the holdout as an experiment, in exposures and the ranking log; no key begins with an underscore."""
HELD_OUT: Final = "held_out"
MEASURED: Final = "measured"

_NOBODY: Final = 255  # more than any place of an experiment or of an arm
# a longer integer id exceeds every allowed unit, and its decimal form is expensive to compute
_MAX_INT_BITS: Final = 4096


def bucket(salt: str, stage: Stage, unit: str) -> int:
    """Return the place of a unit, 0-9,999, under a salt at a stage."""
    return int.from_bytes(sha256(f"{salt}.{stage}.{unit}".encode()).digest()[:8], "big") % BUCKETS


def buckets(salt: str, stage: Stage, units: Iterable[bytes]) -> npt.NDArray[np.int64]:
    """Return `bucket` of many units, each in UTF-8."""
    prefix = f"{salt}.{stage}.".encode()
    digests = b"".join([sha256(prefix + unit).digest() for unit in units])
    return (np.frombuffer(digests, ">u8").reshape(-1, 4)[:, 0] % BUCKETS).astype(np.int64)


class LayerArm(NamedTuple):
    """An arm: its key, and the layer's defaults overlaid by its parameters."""

    key: str
    parameters: Mapping[str, Scalar]


class LayerDecision(NamedTuple):
    """One layer's decision for one unit."""

    layer: str
    experiment: str | None
    arm: str | None
    reason: Reason
    slot: int | None  # the unit's place in the layer, 0-9,999; None if the unit was not hashed
    arm_bucket: int | None  # its place inside the experiment; None unless the hash chose the arm
    forced: bool  # by override: served, never analysed
    parameters: Mapping[str, Scalar]  # the layer's defaults overlaid by the arm's
    salt: str  # the experiment's, "" without one
    pair: tuple[LayerArm, LayerArm] | None = None  # the arms that are interleaved for the unit, the control first

    @property
    def variant(self) -> str:
        """Return `experiment:arm`, or `none`: bounded by the experiment file, so it can be a metric label."""
        return f"{self.experiment}:{self.arm}" if self.experiment is not None else NO_ARM

    def member(self, show_bucket: bool) -> str:
        """Return this layer's member of the RFC 9651 dictionary."""
        shown = f";b={self.arm_bucket}" if show_bucket and self.arm_bucket is not None else ""
        return f"{self.layer}={self.variant}{shown};r={self.reason}"


class Decision(NamedTuple):
    """The decisions of all layers for one unit, in the order of the file."""

    layers: tuple[LayerDecision, ...]
    digest: str
    unit: str | None  # as it was hashed; None if it was not valid
    holdout: LayerDecision | None = None  # its arm of the comparison of held-out units with others; most are in none
    pair: tuple[LayerArm, LayerArm] | None = None  # the two arms whose lists are interleaved; nearly all have none

    @property
    def assigned(self) -> tuple[LayerDecision, ...]:
        """Return the decisions that put the unit into an arm, that of the holdout included."""
        every = self.layers if self.holdout is None else (*self.layers, self.holdout)
        return tuple([layer for layer in every if layer.arm is not None])

    @property
    def parameters(self) -> Parameters:
        """Return the parameters of all layers; no two layers share a name."""
        merged: Parameters = {}
        for layer in self.layers:
            merged.update(layer.parameters)
        return merged

    @property
    def variant(self) -> str:
        """Return `experiment:arm` of the layer that decides the model, or `none`."""
        for layer in self.layers:
            if "model" in layer.parameters:
                return layer.variant
        return NO_ARM

    def header(self, show_bucket: bool = True) -> str:
        """Return the X-AB-Bucket header: an RFC 9651 dictionary, all layers, in the order of the file."""
        return ", ".join([layer.member(show_bucket) for layer in self.layers]) or NO_SNAPSHOT_HEADER


UNDECIDED: Final = Decision((), "", None)
"""The decision before any experiment file was accepted."""


class ExperimentsSnapshot:
    """An accepted experiment file, prepared for fast decisions; never changes.

    Args:
        config: the validated file.
        digest: its config digest.
        resolve: maps parameters to the served ones (`version: latest` to an existing version). It is called once, here,
            and not per request, so that "latest" cannot change during an experiment.
    """

    def __init__(
        self,
        config: ExperimentsConfig,
        digest: str,
        resolve: Callable[[Parameters], Parameters] = dict,
    ) -> None:
        self.config = config
        self.digest = digest
        self.layers = tuple(_CompiledLayer(layer, resolve) for layer in config.layers)
        self._max_bytes = config.unit.max_bytes
        self._holdout = _Holdout(config)
        self._overrides = config.overrides.units
        compiled = [one for layer in self.layers for one in layer.experiments]
        self._interleaves = any(one.pair for one in compiled)
        self.has_targets = any(one.target for one in compiled)  # whether attributes can change a decision
        self._turns_ms = sorted({turn for one in compiled for turn in one.turns_ms})
        self._undecided = {reason: self._everywhere(reason, None) for reason in (NOT_RANKED, ERROR)}

    def undecided(self, reason: Literal["not_ranked", "error"]) -> Decision:
        """Return the decision of a response that needed none: defaults everywhere, and the reason."""
        return self._undecided[reason]

    def steady_about(self, now_ms: int) -> tuple[float, float]:
        """Return the span of time, its end not included, in which a unit's decision is the one of `now_ms`."""
        place = bisect_right(self._turns_ms, now_ms)
        return (
            self._turns_ms[place - 1] if place else -math.inf,
            self._turns_ms[place] if place < len(self._turns_ms) else math.inf,
        )

    def unit_of(self, value: object) -> str | None:
        """Return the identifier as it is hashed, or None if it is not a valid unit.

        Text is taken byte for byte; an integer in plain decimal. Booleans, floats, null and empty text are refused:
        1 and 1.0 would be the same unit in one language and two in another.
        """
        if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _MAX_INT_BITS:
            value = str(value)
        if not isinstance(value, str) or not value or len(value) > self._max_bytes:
            return None
        try:
            return value if len(value.encode()) <= self._max_bytes else None
        except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form, so other programs could not reproduce the hash
            return None

    def decide(
        self,
        unit: object,
        attributes: Mapping[str, object],
        now_ms: int,
        forced: Mapping[str, str] | None = None,
    ) -> Decision:
        """Decide every layer for a unit. Pure and total: no clock, no I/O, and nothing raises.

        Args:
            unit: the identifier; an invalid one is never hashed.
            attributes: the values that targets may test.
            now_ms: milliseconds since the epoch.
            forced: an already verified override, layer to `experiment:arm`; it takes precedence over the file's.
        """
        if not self.config.enabled:
            return self._everywhere("disabled", None)
        name = self.unit_of(unit)
        if name is None:
            return self._everywhere("no_unit", None)
        text = name.encode()
        wanted: Mapping[str, str] = self._overrides.get(name, {})
        if forced:
            wanted = {**wanted, **forced}
        holdout = self._holdout.arm(text)
        held_out = holdout is not None and holdout.arm == HELD_OUT
        layers = tuple([layer.decide(text, attributes, now_ms, wanted, held_out) for layer in self.layers])
        if holdout is not None and wanted and any(layer.forced for layer in layers):
            holdout = holdout._replace(forced=True)
        pair = next((layer.pair for layer in layers if layer.pair), None) if self._interleaves else None
        return Decision(layers, self.digest, name, holdout, pair)

    def _everywhere(self, reason: Reason, unit: str | None) -> Decision:
        return Decision(tuple([layer.nothing(reason, None) for layer in self.layers]), self.digest, unit)


def snapshot_of(document: object, resolve: Callable[[Parameters], Parameters] = dict) -> ExperimentsSnapshot:
    """Validate a parsed experiment file and prepare it.

    Raises:
        ExperimentsError: a rule is broken.
    """
    config, digest = parse_experiments(document)
    return ExperimentsSnapshot(config, digest, resolve)


def decide(snapshot: ExperimentsSnapshot, unit: object, attributes: Mapping[str, object], now_ms: int) -> Decision:
    """Decide every layer for a unit; see `ExperimentsSnapshot.decide`."""
    return snapshot.decide(unit, attributes, now_ms)


class _Holdout:
    def __init__(self, config: ExperimentsConfig) -> None:
        holdout = config.holdout
        self._salt = holdout.salt if holdout else ""
        self._prefix = f"{self._salt}.holdout.".encode()
        self._table = _table([holdout.buckets, holdout.measured] if holdout else [])

    def arm(self, unit: bytes) -> LayerDecision | None:
        """Return whether a unit is held out, or one of those that the held-out ones are compared with."""
        if not self._salt:
            return None
        place = _place(self._prefix, unit)
        arm = self._table[place]
        if arm == _NOBODY:
            return None
        return LayerDecision(HOLDOUT, HOLDOUT, (HELD_OUT, MEASURED)[arm], "holdout", place, None, False, {}, self._salt)


class _CompiledLayer:
    """A layer with its two look-ups as 10,000-byte tables: slot to experiment here, arm bucket to arm in each."""

    def __init__(self, layer: Layer, resolve: Callable[[Parameters], Parameters]) -> None:
        self.key = layer.key
        self.defaults: Parameters = resolve(dict(layer.defaults))
        self.experiments = [_CompiledExperiment(one, layer, resolve) for one in layer.experiments]
        self._prefix = f"{layer.salt}.slot.".encode()
        # A stopped experiment keeps its slots (reason `inactive`) until another one takes them.
        stopped = [one.slots if one.status == "stopped" else () for one in layer.experiments]
        reserved = [() if one.status == "stopped" else one.slots for one in layer.experiments]
        self._table = _table(reserved, over=_table(stopped))
        self._choices = {
            f"{one.key}:{arm}": (one, place)
            for one in self.experiments
            if not one.stopped
            for place, arm in enumerate(one.arms)
        }

    def nothing(self, reason: Reason, slot: int | None) -> LayerDecision:
        return LayerDecision(self.key, None, None, reason, slot, None, False, self.defaults, "")

    def decide(
        self,
        unit: bytes,
        attributes: Mapping[str, object],
        now_ms: int,
        wanted: Mapping[str, str],
        held_out: bool,
    ) -> LayerDecision:
        slot = _place(self._prefix, unit)
        if wanted:
            choice = self._choices.get(wanted.get(self.key, ""))
            if choice is not None:
                return choice[0].arm(choice[1], "override", slot, None)
        if held_out:
            return self.nothing("holdout", slot)
        place = self._table[slot]
        if place == _NOBODY:
            return self.nothing("unallocated", slot)
        experiment = self.experiments[place]
        if not experiment.is_active(now_ms):
            return self.nothing("inactive", slot)
        if not all(matches(attributes) for matches in experiment.target):
            return self.nothing("not_targeted", slot)
        return experiment.split(unit, slot)


class _CompiledExperiment:
    def __init__(self, experiment: Experiment, layer: Layer, resolve: Callable[[Parameters], Parameters]) -> None:
        self.key = experiment.key
        self.layer = layer.key
        self.salt = experiment.salt
        self.arms = [arm.key for arm in experiment.arms]
        self.parameters: list[Parameters] = [resolve({**layer.defaults, **arm.params}) for arm in experiment.arms]
        self.stopped = experiment.status == "stopped"
        self.target = [_condition(one) for one in experiment.target.all] if experiment.target else []
        self._running = experiment.status == "running"
        self._start_ms = math.ceil(experiment.start.timestamp() * 1000)
        self._end_ms = math.ceil(experiment.end.timestamp() * 1000)
        self.turns_ms = (self._start_ms, self._end_ms)
        self.pair = self._pair() if experiment.kind == "interleave" and len(self.arms) == ARMS else None
        self._prefix = f"{experiment.salt}.arm.".encode()
        self._table = _table([arm.buckets for arm in experiment.arms])

    def _pair(self) -> tuple[LayerArm, LayerArm]:
        """Return both arms, the control first."""
        one, other = [LayerArm(*arm) for arm in zip(self.arms, self.parameters, strict=True)]
        return (one, other) if one.key == CONTROL else (other, one)

    def is_active(self, now_ms: int) -> bool:
        return self._running and self._start_ms <= now_ms < self._end_ms

    def split(self, unit: bytes, slot: int) -> LayerDecision:
        if self.pair is not None:  # every unit gets both arms
            parameters = self.pair[0].parameters
            return LayerDecision(
                self.layer, self.key, INTERLEAVED, "split", slot, None, False, parameters, self.salt, self.pair
            )
        arm_bucket = _place(self._prefix, unit)
        return self.arm(self._table[arm_bucket], "split", slot, arm_bucket)

    def arm(self, place: int, reason: Reason, slot: int, arm_bucket: int | None) -> LayerDecision:
        forced = reason == "override"
        parameters = self.parameters[place]
        return LayerDecision(
            self.layer, self.key, self.arms[place], reason, slot, arm_bucket, forced, parameters, self.salt
        )


def _place(prefix: bytes, unit: bytes) -> int:
    return int.from_bytes(sha256(prefix + unit).digest()[:8], "big") % BUCKETS


def _table(owners: Iterable[Iterable[tuple[int, int]]], over: bytes | None = None) -> bytes:
    """Return a table from bucket to the place of its owner, 255 if it has no owner."""
    table = bytearray(over if over is not None else bytes([_NOBODY]) * BUCKETS)
    for place, ranges in enumerate(owners):
        for start, stop in ranges:
            table[start:stop] = bytes([place]) * (stop - start)
    return bytes(table)


_ORDERINGS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {  # Any: both sides are known to be numbers by then
    "lt": lambda left, right: left < right,
    "lte": lambda left, right: left <= right,
    "gt": lambda left, right: left > right,
    "gte": lambda left, right: left >= right,
}


def _condition(condition: Condition) -> Callable[[Mapping[str, object]], bool]:
    """Return the test of one condition. An attribute that is missing, or of another type, fails every operator.

    So does `ne`: a unit without a platform is not known to be off Android.
    """
    name, ordering = condition.attr, _ORDERINGS.get(condition.op)
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    members = frozenset([_typed(value) for value in values])
    types = frozenset([kind for kind, _ in members])
    inverted = condition.op in {"ne", "not_in"}

    def matches(attributes: Mapping[str, object]) -> bool:
        value = attributes.get(name)
        if not isinstance(value, str | bool | int | float):
            return False
        typed = _typed(value)
        if typed[0] not in types:
            return False
        return ordering(value, values[0]) if ordering else (typed in members) != inverted

    return matches


def _typed(value: Scalar) -> tuple[str, Scalar]:
    """Return the value with its kind, because True == 1 in Python but not in other languages."""
    if isinstance(value, bool):
        return "bool", value
    return ("text", value) if isinstance(value, str) else ("number", value)
