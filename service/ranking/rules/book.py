"""The rules of an experiment file, prepared for every served bundle before the file is accepted."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from contract.bundle.manifest import Manifest
from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.decision import Decision
from contract.experiments.fields import Parameters
from contract.experiments.rules import Rule, ruled_features, rules_of
from service.bundles.bundle import Bundle
from service.ranking.rules.features import Column, column_of, features_of, numbers_of
from service.ranking.rules.kinds import AgeRule, BoostRule, DiversityRule, ScoreRule

_KEPT: Final = 4  # files: rankings in progress may still be of the one before
_TOLD: Final = 8  # features of a bundle in an error


class BundleRules(NamedTuple):
    """A set of rules for one bundle, in the order of the file.

    Attributes:
        set: its name.
        names: of all rules; the others below have their numbers in it.
        ages: age limits.
        scorings: rules that change scores.
        reads_all: whether callers' features of all candidates are needed, not only of those that the bundle lacks.
        is_linear: whether the bundle's scores are weights, not their logarithms.
    """

    set: str
    names: tuple[str, ...]
    ages: tuple[tuple[int, AgeRule], ...]
    scorings: tuple[tuple[int, ScoreRule], ...]
    reads_all: bool
    is_linear: bool


class RuleBook:
    """Rules by file, set and bundle.

    Args:
        served: the served bundles.
    """

    def __init__(self, served: Callable[[], Sequence[Bundle]] = tuple) -> None:
        self._served = served
        self._books: OrderedDict[str, dict[tuple[str, str], BundleRules]] = OrderedDict()
        self._last: tuple[ExperimentsSnapshot, tuple[str, ...], list[str]] | None = None
        self.has_rules = False  # in one of the last files
        self.features: frozenset[str] = frozenset()  # that the last file's rules read

    def of(self, decision: Decision, name: str, bundle: Bundle) -> BundleRules | None:
        """Return a set of the file that made the decision."""
        return self._books.get(decision.digest, {}).get((name, bundle.digest))

    async def prepare(self, snapshot: ExperimentsSnapshot) -> list[str]:
        """Prepare the rules of a file for the bundles that are served now; return why some cannot work.

        The same file and bundles are prepared once. Rules of files that are in force stay.
        """
        self.features = ruled_features(snapshot.config.rules)
        if not snapshot.config.rules:
            self._keep(snapshot.digest, {})
            return []
        bundles, known = self._served(), self._books.get(snapshot.digest, {})
        digests = tuple([bundle.digest for bundle in bundles])
        if self._last is None or self._last[:2] != (snapshot, digests):
            found, problems = await asyncio.to_thread(_prepared, snapshot, bundles, known)
            self._keep(snapshot.digest, found)
            self._last = (snapshot, digests, problems)
        return self._last[2]

    def _keep(self, digest: str, found: dict[tuple[str, str], BundleRules]) -> None:
        self._books[digest] = found
        self._books.move_to_end(digest)
        while len(self._books) > _KEPT:
            self._books.popitem(last=False)
        self.has_rules = any(self._books.values())


def _prepared(
    snapshot: ExperimentsSnapshot, bundles: Sequence[Bundle], known: Mapping[tuple[str, str], BundleRules]
) -> tuple[dict[tuple[str, str], BundleRules], list[str]]:
    sets = snapshot.config.rules
    named = {name for _, parameters in _arms(snapshot) if (name := rules_of(parameters))}
    found, columns = {}, cache(column_of)
    for bundle in bundles:
        for name in sorted(named & sets.keys()):
            key = (name, bundle.digest)
            found[key] = known.get(key) or bundle_rules(name, sets[name], bundle, columns)
    return found, list(_problems(snapshot, bundles))


def bundle_rules(
    name: str, rules: Sequence[Rule], bundle: Bundle, column: Callable[[Bundle, str], Column] = column_of
) -> BundleRules:
    """Prepare a set of rules for a bundle; a feature that it does not have changes nothing."""
    ages: list[tuple[int, AgeRule]] = []
    scorings: list[tuple[int, ScoreRule]] = []
    for number, rule in enumerate(rules):
        feature = rule.feature if rule.source == "bundle" else ""  # no item has a feature without a name
        if rule.age_limit is not None:
            ages.append((number, AgeRule(rule.age_limit, numbers_of(bundle, feature))))
        elif rule.boost is not None:
            scorings.append((number, BoostRule(rule.boost, column(bundle, feature))))
        elif rule.diversity is not None:
            scorings.append((number, DiversityRule(rule.diversity, column(bundle, feature))))
    names, reads_all = tuple(rule.label for rule in rules), any(rule.source == "callers" for rule in rules)
    return BundleRules(name, names, tuple(ages), tuple(scorings), reads_all, is_linear(bundle.manifest))


def is_linear(manifest: Manifest) -> bool:
    """Return whether the scores are weights: sums of probabilities, or counts of a model that has learnt nothing."""
    return bool(manifest.targets) or not manifest.parameters


def _arms(snapshot: ExperimentsSnapshot) -> Iterator[tuple[str, Parameters]]:
    for layer in snapshot.layers:
        yield layer.key, layer.defaults
        for one in layer.experiments:
            if not one.stopped:
                for arm, parameters in zip(one.arms, one.parameters, strict=True):
                    yield f"{layer.key}.{one.key}:{arm}", parameters


def _problems(snapshot: ExperimentsSnapshot, bundles: Sequence[Bundle]) -> Iterator[str]:
    """Yield the rules that read a feature which the bundle of their arm lacks."""
    features = cache(features_of)
    for arm, parameters in _arms(snapshot):
        name, model = rules_of(parameters), parameters.get("model")
        for bundle in bundles:
            if model is not None and bundle.name != f"{model}@{parameters.get('version')}":
                continue  # of a layer without a model, the arm meets every bundle
            for rule in snapshot.config.rules.get(name, ()):
                if rule.source == "bundle" and rule.feature not in features(bundle):
                    yield f"{arm}: rules {name}: {rule.label}: {_lack(bundle, rule.feature, features(bundle))}"


def _lack(bundle: Bundle, feature: str, known: frozenset[str]) -> str:
    told = ", ".join(sorted(known)[:_TOLD]) or "none"
    return (
        f"feature {feature}: bundle {bundle.name} has no such item feature (it has: {told}); "
        "if callers send it, write source: callers"
    )
