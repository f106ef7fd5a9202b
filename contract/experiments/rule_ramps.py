"""The rules after scoring that running arms serve cannot change, as their parameters cannot (ramps.py)."""

from __future__ import annotations

from collections.abc import Iterator, Set

from contract.experiments.definition import ExperimentsConfig
from contract.experiments.problems import Problem
from contract.experiments.rules import RULES, rules_of


def rule_refusals(old: ExperimentsConfig, new: ExperimentsConfig, running: Set[str]) -> Iterator[Problem]:
    """Yield changes of sets of rules that arms of running experiments name, and sets that would be added to them.

    Args:
        old: the file in force.
        new: the proposed file.
        running: keys of experiments.
    """
    named: set[str] = set()
    places = {layer.key: place for place, layer in enumerate(new.layers)}
    for layer in old.layers:
        arms = [arm.params for one in layer.experiments if one.key in running for arm in one.arms]
        if not arms or layer.key not in places:
            continue
        named |= {rules_of(parameters) for parameters in (layer.defaults, *arms)}
        place = places[layer.key]
        if RULES not in layer.defaults and rules_of(new.layers[place].defaults):
            where = ("layers", place, "defaults", RULES)
            yield Problem(f"{layer.key}: default {RULES} would change what running arms serve", where)
    for name in sorted(named & old.rules.keys()):
        if new.rules.get(name) != old.rules[name]:
            text = f"rules {name}: this set is part of what running arms serve and cannot change"
            yield Problem(text, ("rules", name))
