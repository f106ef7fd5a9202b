"""The format of the experiment file: its parts, and the rules of each.

fields.py has the types of the fields, parse.py reads a file, ramps.py has the allowed edits, assignment.py applies it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import groupby
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from contract.experiments.fields import (
    BUCKETS,
    CONTROL,
    Key,
    Label,
    Name,
    Range,
    Ranges,
    Salt,
    Scalar,
    Strict,
    Text,
    UtcTime,
    Value,
    at_least,
    disjoint,
    distinct,
)
from contract.experiments.rules import RuleSets
from contract.experiments.shadows import Shadow
from contract.experiments.shares import Ramp, check_ramp
from contract.experiments.target_weights import with_text

MAX_LAYERS: Final = 8
MAX_EXPERIMENTS: Final = 64
MAX_DAYS: Final = 90

Params = Annotated[dict[Name, Value], BeforeValidator(with_text)]


class Unit(Strict):
    """The thing that is randomised."""

    type: Literal["user_id"] = "user_id"
    max_bytes: Annotated[int, Field(ge=1, le=1024)] = 128


class Holdout(Strict):
    """Units that are in no experiment of any layer, and an equal number of others to compare them with."""

    salt: Salt
    buckets: Ranges

    @property
    def measured(self) -> tuple[Range, ...]:
        """Return as many buckets as are held out, the next ones after the last range; fewer if there are too few."""
        held = {place for start, stop in self.buckets for place in range(start, stop)}
        first = max((stop for _, stop in self.buckets), default=0)
        others = [place % BUCKETS for place in range(first, first + BUCKETS) if place % BUCKETS not in held]
        chosen = enumerate(sorted(others[: len(held)]))
        runs = [[place for _, place in run] for _, run in groupby(chosen, lambda pair: pair[1] - pair[0])]
        return tuple((run[0], run[-1] + 1) for run in runs)

    @model_validator(mode="after")
    def _check(self) -> Holdout:
        disjoint("holdout buckets", self.buckets)
        return self


class Overrides(Strict):
    """Units put into an arm by hand, layer by layer as `experiment:arm`: served, never analysed."""

    header_enabled: bool = False
    units: Annotated[dict[Text, dict[Key, Text]], Field(max_length=1000)] = Field(default_factory=dict)


class Condition(Strict):
    """One test of one attribute. No regular expressions: their cost is not bounded and they differ by language."""

    attr: Annotated[str, Field(min_length=1, max_length=64)]
    op: Literal["eq", "ne", "in", "not_in", "lt", "lte", "gt", "gte"]
    value: Value | Annotated[tuple[Value, ...], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _check(self) -> Condition:
        listed = isinstance(self.value, tuple)
        if listed != (self.op in {"in", "not_in"}):
            raise ValueError(f"operator {self.op} takes {'one value' if listed else 'a list of values'}")
        if self.op in {"lt", "lte", "gt", "gte"} and (isinstance(self.value, str | bool)):
            raise ValueError(f"operator {self.op} takes a number")
        return self


class Target(Strict):
    """The users of an experiment: all conditions are true for them."""

    all: Annotated[tuple[Condition, ...], Field(max_length=16), AfterValidator(at_least(1))]


class Arm(Strict):
    """One variant: its share of the arm buckets, and the parameters that differ from the layer's defaults."""

    key: Key
    buckets: Ranges
    params: Params = Field(default_factory=dict)
    shadow: Shadow | None = None


class Experiment(Strict):
    """One online comparison in one layer."""

    key: Key
    kind: Literal["ab", "aa", "interleave"]
    salt: Salt
    status: Literal["draft", "running", "stopped"]
    start: UtcTime
    end: UtcTime
    owner: Label
    slots: Ranges
    ramp: Ramp = ()
    target: Target | None = None
    arms: Annotated[tuple[Arm, ...], Field(max_length=8), AfterValidator(at_least(2))]
    primary: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    guardrails: Annotated[tuple[Name, ...], Field(max_length=32)] = ()
    secondary: Annotated[tuple[Name, ...], Field(max_length=64)] = ()

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        if not self.start < self.end <= self.start + timedelta(days=MAX_DAYS):
            raise ValueError(f"start must be before end, at most {MAX_DAYS} days apart")
        check_ramp(self.ramp, self.start, self.end)
        distinct("arm keys", [arm.key for arm in self.arms])
        if CONTROL not in {arm.key for arm in self.arms}:
            raise ValueError(f"one arm must be named '{CONTROL}'")
        disjoint("slots", self.slots)
        ranges = [bounds for arm in self.arms for bounds in arm.buckets]
        disjoint("arm buckets", ranges)
        if sum(stop - start for start, stop in ranges) != BUCKETS:
            raise ValueError(f"arm buckets must cover 0-{BUCKETS} exactly")
        if self.kind == "aa" and any(arm.params != self.arms[0].params for arm in self.arms):
            raise ValueError("arms of an A/A experiment must have identical params")
        return self


class Layer(Strict):
    """Owns a set of parameters; its experiments exclude each other, other layers are independent of it."""

    key: Key
    salt: Salt
    defaults: Params
    shadow: Shadow | None = None  # of users without an arm
    experiments: Annotated[tuple[Experiment, ...], Field(max_length=MAX_EXPERIMENTS)] = ()

    @model_validator(mode="after")
    def _check(self) -> Layer:
        reserved = [bounds for one in self.experiments if one.status != "stopped" for bounds in one.slots]
        disjoint(f"slots of layer {self.key}", reserved)
        for experiment in self.experiments:
            for arm in experiment.arms:
                self._check_params(f"{experiment.key}:{arm.key}", arm.params)
        return self

    def _check_params(self, arm: str, params: Mapping[str, Scalar]) -> None:
        for name, value in params.items():
            if name not in self.defaults:
                raise ValueError(f"{arm}: param {name} is not among the defaults of layer {self.key}")
            if type(value) is not type(self.defaults[name]):
                raise ValueError(f"{arm}: param {name} must be of type {type(self.defaults[name]).__name__}")


class ExperimentsConfig(Strict):
    """The whole file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    revision: Label
    enabled: bool = True
    unit: Unit = Unit()
    holdout: Holdout | None = None
    overrides: Overrides = Overrides()
    rules: RuleSets = Field(default_factory=dict)
    layers: Annotated[tuple[Layer, ...], Field(max_length=MAX_LAYERS), AfterValidator(at_least(1))]

    @model_validator(mode="after")
    def _check(self) -> ExperimentsConfig:
        distinct("layer keys", [layer.key for layer in self.layers])
        # Unique in the whole file and not only in the layer: the analysis keeps one exposure per (experiment, unit).
        distinct("experiment keys", [one.key for layer in self.layers for one in layer.experiments])
        distinct("parameter names of layers", [name for layer in self.layers for name in layer.defaults])
        distinct("salts", list(self._salts()))
        for choices in self.overrides.units.values():
            for layer, choice in choices.items():
                self._check_override(layer, choice)
        return self

    def _salts(self) -> Iterator[str]:
        if self.holdout is not None:
            yield self.holdout.salt
        for layer in self.layers:
            yield layer.salt
            yield from (experiment.salt for experiment in layer.experiments)

    def _check_override(self, layer_key: str, choice: str) -> None:
        known = {
            f"{one.key}:{arm.key}"
            for layer in self.layers
            if layer.key == layer_key
            for one in layer.experiments
            for arm in one.arms
        }
        if choice not in known:
            raise ValueError(f"override {layer_key}={choice} names no arm")
