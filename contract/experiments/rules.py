"""Rules after scoring, as an experiment file has them: sets by name, which the parameter `rules` of an arm names.

docs/rules.md explains each rule. The service applies them; here is only their format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from contract.experiments.fields import Key, Scalar, Strict, Text, at_least, distinct

RULES: Final = "rules"
"""The parameter that names a set of rules; empty text names none."""
FIRST_SEEN: Final = "first_seen"
"""The item feature with the time (ms) of an item's first behaviour in the training data."""
MAX_RULES: Final = 16
MAX_RULE_SETS: Final = 32

FeatureName = Annotated[str, Field(min_length=1, max_length=64)]
Source = Literal["bundle", "callers"]
"""Where the feature of an item comes from that the model knows; docs/rules.md, "Where features come from"."""


class Diversity(Strict):
    """Lowers an item by the number of better items with the same value of a feature.

    Attributes:
        by: the feature; if it is a list, the value that most better items have counts.
        decay: the weight of the second item with a value, less `floor`, compared with the first.
        floor: the weight that is left to every item.
    """

    by: FeatureName
    decay: Annotated[float, Field(ge=0, le=1)]
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    source: Source = "bundle"

    @model_validator(mode="after")
    def _check(self) -> Diversity:
        if not self.decay and not self.floor:
            raise ValueError("decay 0 takes a floor above 0: otherwise the order of repeated items is lost")
        return self


class Boost(Strict):
    """Raises or lowers items with a value of a feature.

    Attributes:
        feature: the feature.
        value, values: one of these values.
        factor: multiplies the weight of the item; below 1 it lowers.
        add: is added to the score instead.
    """

    feature: FeatureName
    value: Text | int | float | None = None
    values: Annotated[tuple[Text | int | float, ...], Field(max_length=256), AfterValidator(at_least(1))] | None = None
    factor: Annotated[float, Field(ge=0.001, le=1000)] | None = None
    add: Annotated[float, Field(ge=-1_000_000, le=1_000_000)] | None = None
    source: Source = "bundle"

    @model_validator(mode="after")
    def _check(self) -> Boost:
        if (self.value is None) == (self.values is None):
            raise ValueError("give either value or values")
        if (self.factor is None) == (self.add is None):
            raise ValueError("give either factor or add")
        return self

    @property
    def wanted(self) -> tuple[str | int | float, ...]:
        """Return the values."""
        return self.values if self.value is None else (self.value,)  # type: ignore[return-value]  # one is given


class AgeLimit(Strict):
    """Puts items older than a limit behind all others.

    Attributes:
        hours, seconds: the limit.
        feature: a number, the time at which the item was born.
        unit: of that number.
    """

    hours: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    seconds: Annotated[float, Field(gt=0, le=4_000_000_000)] | None = None
    feature: FeatureName = FIRST_SEEN
    unit: Literal["ms", "s"] = "ms"
    source: Source = "bundle"

    @model_validator(mode="after")
    def _check(self) -> AgeLimit:
        if (self.hours is None) == (self.seconds is None):
            raise ValueError("give either hours or seconds")
        return self

    @property
    def limit_ms(self) -> float:
        """Return the limit in milliseconds."""
        return (self.seconds or 0.0) * 1000 + (self.hours or 0.0) * 3_600_000


class Rule(Strict):
    """One rule, of one kind; its name is in answers and metrics."""

    name: Key | None = None
    diversity: Diversity | None = None
    boost: Boost | None = None
    age_limit: AgeLimit | None = None

    @model_validator(mode="after")
    def _check(self) -> Rule:
        if sum(one is not None for one in (self.diversity, self.boost, self.age_limit)) != 1:
            raise ValueError("a rule is one of diversity, boost, age_limit")
        return self

    @property
    def label(self) -> str:
        """Return the rule's name: the given one, or its kind and feature."""
        if self.name is not None:
            return self.name
        if self.diversity is not None:
            return f"diversity:{self.diversity.by}"
        return f"boost:{self.boost.feature}" if self.boost is not None else "age_limit"

    @property
    def feature(self) -> str:
        """Return the feature that it reads."""
        if self.diversity is not None:
            return self.diversity.by
        found = self.boost or self.age_limit
        assert found is not None
        return found.feature

    @property
    def source(self) -> Source:
        """Return where that feature comes from."""
        found = self.diversity or self.boost or self.age_limit
        assert found is not None
        return found.source


def _distinct_names(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    distinct("names of rules (give a name)", [rule.label for rule in rules])
    return rules


RuleSet = Annotated[
    tuple[Rule, ...], Field(max_length=MAX_RULES), AfterValidator(at_least(1)), AfterValidator(_distinct_names)
]
RuleSets = Annotated[dict[Key, RuleSet], Field(max_length=MAX_RULE_SETS)]


def ruled_features(sets: Mapping[str, tuple[Rule, ...]]) -> frozenset[str]:
    """Return the item features that rules read."""
    return frozenset(rule.feature for rules in sets.values() for rule in rules)


def rules_of(parameters: Mapping[str, Scalar]) -> str:
    """Return the set that parameters name, or empty text."""
    name = parameters.get(RULES)
    return name if isinstance(name, str) else ""
