"""The test of a user's attributes against the conditions of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from contract.experiments.definition import Condition
from contract.experiments.fields import Scalar

_ORDERINGS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {  # Any: both sides are known to be numbers by then
    "lt": lambda left, right: left < right,
    "lte": lambda left, right: left <= right,
    "gt": lambda left, right: left > right,
    "gte": lambda left, right: left >= right,
}


def condition_test(condition: Condition) -> Callable[[Mapping[str, object]], bool]:
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
