"""The parts of an accepted file, each with its look-up as a table of 10,000 bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from contract.experiments.buckets import NO_OWNER, place_of, table_of
from contract.experiments.decision import LayerArm, LayerDecision, Reason
from contract.experiments.definition import Experiment, ExperimentsConfig, Layer
from contract.experiments.fields import CONTROL, Parameters
from contract.experiments.interleaving import ARMS, INTERLEAVED
from contract.experiments.shadows import shadow_of
from contract.experiments.shares import reached
from contract.experiments.targets import condition_test

HOLDOUT: Final = "_holdout"
"""The name of the holdout as an experiment, in exposures and the ranking log; no key begins with an underscore."""
HELD_OUT: Final = "held_out"
MEASURED: Final = "measured"


class HoldoutTable:
    """The holdout, and those that its units are compared with."""

    def __init__(self, config: ExperimentsConfig) -> None:
        holdout = config.holdout
        self._salt = holdout.salt if holdout else ""
        self._prefix = f"{self._salt}.holdout.".encode()
        self._table = table_of([holdout.buckets, holdout.measured] if holdout else [])

    def arm(self, unit: bytes) -> LayerDecision | None:
        """Return whether a unit is held out, or one of those that the held-out ones are compared with."""
        if not self._salt:
            return None
        place = place_of(self._prefix, unit)
        arm = self._table[place]
        if arm == NO_OWNER:
            return None
        return LayerDecision(HOLDOUT, HOLDOUT, (HELD_OUT, MEASURED)[arm], "holdout", place, None, False, {}, self._salt)


class LayerTable:
    """A layer with its two look-ups as 10,000-byte tables: slot to experiment here, arm bucket to arm in each."""

    def __init__(self, layer: Layer, resolve: Callable[[Parameters], Parameters]) -> None:
        self.key = layer.key
        self.defaults: Parameters = resolve(dict(layer.defaults))
        self.shadow = shadow_of(layer.shadow, resolve)
        self.experiments = [ExperimentTable(one, layer, resolve) for one in layer.experiments]
        self._prefix = f"{layer.salt}.slot.".encode()
        # A stopped experiment keeps its slots (reason `inactive`) until another one takes them.
        stopped = [one.slots if one.status == "stopped" else () for one in layer.experiments]
        reserved = [() if one.status == "stopped" else one.slots for one in layer.experiments]
        self._table = table_of(reserved, over=table_of(stopped))
        self._choices = {
            f"{one.key}:{arm}": (one, place)
            for one in self.experiments
            if not one.stopped
            for place, arm in enumerate(one.arms)
        }

    def nothing(self, reason: Reason, slot: int | None) -> LayerDecision:
        """Return the decision that gives the layer's defaults."""
        return LayerDecision(self.key, None, None, reason, slot, None, False, self.defaults, "", shadow=self.shadow)

    def decide(
        self,
        unit: bytes,
        attributes: Mapping[str, object],
        now_ms: int,
        wanted: Mapping[str, str],
        held_out: bool,
    ) -> LayerDecision:
        """Decide for a unit; `wanted` has its overrides by layer."""
        slot = place_of(self._prefix, unit)
        if wanted:
            choice = self._choices.get(wanted.get(self.key, ""))
            if choice is not None:
                return choice[0].arm(choice[1], "override", slot, None)
        if held_out:
            return self.nothing("holdout", slot)
        place = self._table[slot]
        if place == NO_OWNER:
            return self.nothing("unallocated", slot)
        experiment = self.experiments[place]
        if not experiment.is_active(now_ms) or not experiment.has_reached(unit, now_ms):
            return self.nothing("inactive", slot)
        if not all(matches(attributes) for matches in experiment.target):
            return self.nothing("not_targeted", slot)
        return experiment.split(unit, slot)


class ExperimentTable:
    """An experiment with its arms as a table over the arm buckets."""

    def __init__(self, experiment: Experiment, layer: Layer, resolve: Callable[[Parameters], Parameters]) -> None:
        self.key = experiment.key
        self.layer = layer.key
        self.salt = experiment.salt
        self.arms = [arm.key for arm in experiment.arms]
        self.parameters: list[Parameters] = [resolve({**layer.defaults, **arm.params}) for arm in experiment.arms]
        self.shadows = [shadow_of(arm.shadow, resolve) for arm in experiment.arms]
        self.stopped = experiment.status == "stopped"
        self.target = [condition_test(one) for one in experiment.target.all] if experiment.target else []
        self._running = experiment.status == "running"
        self._start_ms = math.ceil(experiment.start.timestamp() * 1000)
        self._end_ms = math.ceil(experiment.end.timestamp() * 1000)
        self._ramp, self._ramp_prefix = experiment.ramp, f"{experiment.salt}.ramp.".encode()
        self.turns_ms = (self._start_ms, self._end_ms, *(step.at_ms for step in experiment.ramp))
        self.pair = self._pair() if experiment.kind == "interleave" and len(self.arms) == ARMS else None
        self._prefix = f"{experiment.salt}.arm.".encode()
        self._table = table_of([arm.buckets for arm in experiment.arms])

    def _pair(self) -> tuple[LayerArm, LayerArm]:
        """Return both arms, the control first."""
        one, other = [LayerArm(*arm) for arm in zip(self.arms, self.parameters, strict=True)]
        return (one, other) if one.key == CONTROL else (other, one)

    def is_active(self, now_ms: int) -> bool:
        """Return whether the experiment assigns units at this time."""
        return self._running and self._start_ms <= now_ms < self._end_ms

    def has_reached(self, unit: bytes, now_ms: float) -> bool:
        """Return whether the ramp has come to a unit; without a ramp it has come to all."""
        return not self._ramp or place_of(self._ramp_prefix, unit) < reached(self._ramp, now_ms)

    def split(self, unit: bytes, slot: int) -> LayerDecision:
        """Return the arm that the hash chooses for a unit."""
        if self.pair is not None:  # every unit gets both arms
            parameters = self.pair[0].parameters
            return LayerDecision(
                self.layer, self.key, INTERLEAVED, "split", slot, None, False, parameters, self.salt, self.pair
            )
        arm_bucket = place_of(self._prefix, unit)
        return self.arm(self._table[arm_bucket], "split", slot, arm_bucket)

    def arm(self, place: int, reason: Reason, slot: int, arm_bucket: int | None) -> LayerDecision:
        """Return the decision for the arm at this place of the file."""
        forced = reason == "override"
        parameters = self.parameters[place]
        return LayerDecision(
            self.layer, self.key, self.arms[place], reason, slot, arm_bucket, forced, parameters, self.salt,
            shadow=self.shadows[place],
        )  # fmt: skip
