"""The arm of a unit: one pure function of snapshot, unit, attributes and time.

Each layer uses two independent hashes, one for the slot and one for the arm. So an experiment can be ramped up without
moving users, and layers are orthogonal. buckets.py has the hash, tables.py the look-ups.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Final, Literal

from contract.experiments.decision import ERROR, NOT_RANKED, Decision, LayerDecision, Reason
from contract.experiments.definition import ExperimentsConfig, Layer
from contract.experiments.fields import Parameters
from contract.experiments.parse import parse_experiments
from contract.experiments.rules import RULES, rules_of
from contract.experiments.shadows import ShadowBundle
from contract.experiments.tables import HELD_OUT, HoldoutTable, LayerTable

# a longer integer id exceeds every allowed unit, and its decimal form is expensive to compute
_MAX_INT_BITS: Final = 4096


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
        self.layers = tuple(LayerTable(layer, resolve) for layer in config.layers)
        ruled = [place for place, layer in enumerate(config.layers) if RULES in layer.defaults]
        self._ruled = ruled[0] if ruled and config.rules else None  # the layer whose arms name sets of rules
        self._shadowed = next((place for place, layer in enumerate(config.layers) if _has_shadow(layer)), None)
        self._max_bytes = config.unit.max_bytes
        self._holdout = HoldoutTable(config)
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
        return Decision(layers, self.digest, name, holdout, pair, self._rules(layers), self._shadow(layers))

    def _everywhere(self, reason: Reason, unit: str | None) -> Decision:
        layers = tuple([layer.nothing(reason, None) for layer in self.layers])
        return Decision(layers, self.digest, unit, rules=self._rules(layers), shadow=self._shadow(layers))

    def _shadow(self, layers: tuple[LayerDecision, ...]) -> ShadowBundle | None:
        return layers[self._shadowed].shadow if self._shadowed is not None else None

    def _rules(self, layers: tuple[LayerDecision, ...]) -> str:
        return rules_of(layers[self._ruled].parameters) if self._ruled is not None else ""


def _has_shadow(layer: Layer) -> bool:
    arms = [arm for one in layer.experiments for arm in one.arms]
    return layer.shadow is not None or any(arm.shadow is not None for arm in arms)


def snapshot_of(document: object, resolve: Callable[[Parameters], Parameters] = dict) -> ExperimentsSnapshot:
    """Validate a parsed experiment file and prepare it.

    Raises:
        ExperimentsError: a rule is broken.
    """
    config, digest = parse_experiments(document)
    return ExperimentsSnapshot(config, digest, resolve)
