"""The format of the experiment file. Assignment is in assignment.py, allowed edits are in ramps.py.

The digest of a file is that of its canonical JSON (keys sorted, no spaces, UTF-8, times as YYYY-MM-DDTHH:MM:SSZ), so
the same experiments in YAML and in JSON have one digest, and every exposure can be traced to the file in force.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from contract.command_line import CommandError

BUCKETS: Final = 10_000
MAX_FILE_BYTES: Final = 1_048_576
MAX_LAYERS: Final = 8
MAX_EXPERIMENTS: Final = 64
MAX_DAYS: Final = 90
MAX_PROBLEMS: Final = 8
CONTROL: Final = "control"
NO_ARM: Final = "none"
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"

Scalar = str | bool | int | float
Parameters = dict[str, Scalar]
T = TypeVar("T")


Place = tuple[str | int, ...]
"""The place of a value in the file: keys and indices from the top."""


class Problem(NamedTuple):
    """One reason why a file cannot be used."""

    text: str
    place: Place = ()  # the place to check; empty means the whole file


class ExperimentsError(CommandError, ValueError):
    """The experiment file cannot be used; `problems` has the first few places and reasons."""

    def __init__(self, problems: Iterable[str | Problem]) -> None:
        found = [Problem(one) if isinstance(one, str) else one for one in problems]
        self.found = tuple(found[:MAX_PROBLEMS])
        self.problems = tuple(one.text for one in self.found)
        super().__init__("experiments: " + "; ".join(self.problems))


def _not_reserved(key: str) -> str:
    if key == NO_ARM:
        raise ValueError(f"'{NO_ARM}' is reserved")
    return key


def _utc(value: object) -> datetime:
    text = value if isinstance(value, str) else ""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text, re.ASCII):
        raise ValueError("must be a UTC time, YYYY-MM-DDTHH:MM:SSZ")
    return datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)


def _half_open(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= bounds[0] < bounds[1] <= BUCKETS:
        raise ValueError(f"range must be half-open, not empty and inside 0-{BUCKETS}")
    return bounds


def _at_least(least: int) -> Callable[[tuple[T, ...]], tuple[T, ...]]:
    """Check a length after its items: pydantic's own check would count an item with a fault as missing."""

    def check(items: tuple[T, ...]) -> tuple[T, ...]:
        if len(items) < least:
            raise ValueError(f"at least {least} needed, not {len(items)}")
        return items

    return check


Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$"), AfterValidator(_not_reserved)]
Salt = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]  # no dot: the dot separates salt, stage and unit
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Label = Annotated[str, Field(min_length=1, max_length=64)]
UtcTime = Annotated[datetime, BeforeValidator(_utc)]
Range = Annotated[tuple[int, int], AfterValidator(_half_open)]
Ranges = Annotated[tuple[Range, ...], Field(max_length=64)]
Text = Annotated[str, Field(max_length=128)]
Value = Text | bool | int | float


class Strict(BaseModel):
    """Unknown keys are errors, types are not coerced, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


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
        _disjoint("holdout buckets", self.buckets)
        return self


class Overrides(Strict):
    """Units put into an arm by hand, layer by layer as `experiment:arm`: served, never analysed."""

    header_enabled: bool = False
    units: Annotated[dict[Text, dict[Key, Text]], Field(max_length=1000)] = {}


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

    all: Annotated[tuple[Condition, ...], Field(max_length=16), AfterValidator(_at_least(1))]


class Arm(Strict):
    """One variant: its share of the arm buckets, and the parameters that differ from the layer's defaults."""

    key: Key
    buckets: Ranges
    params: dict[Name, Value] = {}


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
    target: Target | None = None
    arms: Annotated[tuple[Arm, ...], Field(max_length=8), AfterValidator(_at_least(2))]
    primary: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    guardrails: Annotated[tuple[Name, ...], Field(max_length=32)] = ()
    secondary: Annotated[tuple[Name, ...], Field(max_length=64)] = ()

    @model_validator(mode="after")
    def _check(self) -> Experiment:
        if not self.start < self.end <= self.start + timedelta(days=MAX_DAYS):
            raise ValueError(f"start must be before end, at most {MAX_DAYS} days apart")
        _distinct("arm keys", [arm.key for arm in self.arms])
        if CONTROL not in {arm.key for arm in self.arms}:
            raise ValueError(f"one arm must be named '{CONTROL}'")
        _disjoint("slots", self.slots)
        ranges = [bounds for arm in self.arms for bounds in arm.buckets]
        _disjoint("arm buckets", ranges)
        if sum(stop - start for start, stop in ranges) != BUCKETS:
            raise ValueError(f"arm buckets must cover 0-{BUCKETS} exactly")
        if self.kind == "aa" and any(arm.params != self.arms[0].params for arm in self.arms):
            raise ValueError("arms of an A/A experiment must have identical params")
        return self


class Layer(Strict):
    """Owns a set of parameters; its experiments exclude each other, other layers are independent of it."""

    key: Key
    salt: Salt
    defaults: dict[Name, Value]
    experiments: Annotated[tuple[Experiment, ...], Field(max_length=MAX_EXPERIMENTS)] = ()

    @model_validator(mode="after")
    def _check(self) -> Layer:
        reserved = [bounds for one in self.experiments if one.status != "stopped" for bounds in one.slots]
        _disjoint(f"slots of layer {self.key}", reserved)
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
    layers: Annotated[tuple[Layer, ...], Field(max_length=MAX_LAYERS), AfterValidator(_at_least(1))]

    @model_validator(mode="after")
    def _check(self) -> ExperimentsConfig:
        _distinct("layer keys", [layer.key for layer in self.layers])
        # Unique in the whole file and not only in the layer: the analysis keeps one exposure per (experiment, unit).
        _distinct("experiment keys", [one.key for layer in self.layers for one in layer.experiments])
        _distinct("parameter names of layers", [name for layer in self.layers for name in layer.defaults])
        _distinct("salts", list(self._salts()))
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


def canonical_json(document: object) -> bytes:
    """Return the canonical JSON of a parsed experiment file.

    Raises:
        ExperimentsError: it contains something that JSON cannot express (NaN, a key that is not text, a foreign type).
    """
    try:
        text = json.dumps(_plain(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ExperimentsError([f"not plain data ({error})"]) from error


def digest_of_canonical(content: bytes) -> str:
    """Return the config digest: the first 12 hex digits of the SHA-256 of canonical JSON."""
    return hashlib.sha256(content).hexdigest()[:12]


def parse_experiments(document: object) -> tuple[ExperimentsConfig, str]:
    """Validate a parsed experiment file; return its config and its digest.

    Raises:
        ExperimentsError: a rule is broken; the problems name field and rule.
    """
    content = canonical_json(document)
    if len(content) > MAX_FILE_BYTES:
        raise ExperimentsError([f"larger than {MAX_FILE_BYTES} bytes"])
    try:
        config = ExperimentsConfig.model_validate_json(content)
    except ValidationError as error:
        raise ExperimentsError(_problems(error)) from error
    return config, digest_of_canonical(content)


def _plain(node: object) -> object:
    """Return the node with text keys only and times as text, as JSON has them."""
    if isinstance(node, dict):
        if any(isinstance(key, bool) or not isinstance(key, str | int) for key in node):
            raise TypeError("a key is not text")
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    if isinstance(node, datetime):
        # A time of another zone, or of none, keeps its own form, which the field then refuses.
        return node.strftime(TIME_FORMAT) if node.tzinfo is not None and not node.utcoffset() else node.isoformat()
    return node


def _problems(error: ValidationError) -> list[Problem]:
    found = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        found.append(Problem(f"{place}: {message}" if place else message, detail["loc"]))
    return found


def _distinct(what: str, values: list[str]) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{what} must be distinct: {', '.join(repeated)}")


def _disjoint(what: str, ranges: Iterable[tuple[int, int]]) -> None:
    ordered = sorted(ranges)
    for (_, stop), (start, _) in pairwise(ordered):
        if start < stop:
            raise ValueError(f"{what} overlap at {start}")
