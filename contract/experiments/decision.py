"""The decision for a unit: its arm in each layer, and how the answer's header writes it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final, Literal, NamedTuple

from contract.experiments.fields import NO_ARM, Parameters, Scalar
from contract.experiments.shadows import ShadowBundle

Reason = Literal[
    "split", "override", "holdout", "unallocated", "inactive", "not_targeted", "disabled", "no_unit",
    "not_ranked", "error",
]  # fmt: skip
"""The reason of a layer's decision; the last two mark answers without a decision: another route, an error."""

NOT_RANKED: Final = "not_ranked"
ERROR: Final = "error"
NO_SNAPSHOT_HEADER: Final = "none;r=error"
"""The header before any experiment file was accepted; no layer can have the key `none`."""


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
    shadow: ShadowBundle | None = None  # scores a sample of the unit's rankings after they were answered

    @property
    def variant(self) -> str:
        """Return `experiment:arm`, or `none`: bounded by the experiment file, so it can be a metric label."""
        return f"{self.experiment}:{self.arm}" if self.experiment is not None else NO_ARM

    def member(self, show_bucket: bool) -> str:
        """Return this layer's member of the RFC 9651 dictionary."""
        shown = f";b={self.arm_bucket}" if show_bucket and self.arm_bucket is not None else ""
        return f"{self.layer}={self.variant}{shown};r={self.reason}"


class _Fields(NamedTuple):
    layers: tuple[LayerDecision, ...]
    digest: str
    unit: str | None  # as it was hashed; None if it was not valid
    holdout: LayerDecision | None = None  # its arm of the comparison of held-out units with others; most are in none
    pair: tuple[LayerArm, LayerArm] | None = None  # the two arms whose lists are interleaved; nearly all have none
    rules: str = ""  # the set of rules after scoring; of interleaved arms, the control's
    shadow: ShadowBundle | None = None  # of the layer that decides the model


class Decision(_Fields):
    """The decisions of all layers for one unit, in the order of the file.

    A decision is kept for its unit, so what follows from it is made once.
    """

    @property
    def assigned(self) -> tuple[LayerDecision, ...]:
        """Return the decisions that put the unit into an arm, that of the holdout included."""
        every = self.layers if self.holdout is None else (*self.layers, self.holdout)
        return tuple([layer for layer in every if layer.arm is not None])

    @cached_property
    def exposed(self) -> tuple[LayerDecision, ...]:
        """Return the decisions that put the unit into an arm of an experiment: each leaves an exposure."""
        if self.unit is None:
            return ()
        return tuple([layer for layer in self.assigned if layer.experiment is not None])

    @cached_property
    def parameters(self) -> Parameters:
        """Return the parameters of all layers, not to be changed; no two layers share a name."""
        merged: Parameters = {}
        for layer in self.layers:
            merged.update(layer.parameters)
        return merged

    @cached_property
    def model(self) -> tuple[str, str] | None:
        """Return name and version of the model that a layer decides; None if none does."""
        for layer in self.layers:
            if "model" in layer.parameters:
                return str(layer.parameters["model"]), str(layer.parameters.get("version", ""))
        return None

    @cached_property
    def variant(self) -> str:
        """Return `experiment:arm` of the layer that decides the model, or `none`."""
        for layer in self.layers:
            if "model" in layer.parameters:
                return layer.variant
        return NO_ARM

    def header(self, show_bucket: bool = True) -> str:
        """Return the X-AB-Bucket header: an RFC 9651 dictionary, all layers, in the order of the file."""
        return self._header_with_bucket if show_bucket else self._header_without

    @cached_property
    def _header_with_bucket(self) -> str:
        return self._header(show_bucket=True)

    @cached_property
    def _header_without(self) -> str:
        return self._header(show_bucket=False)

    def _header(self, *, show_bucket: bool) -> str:
        return ", ".join([layer.member(show_bucket) for layer in self.layers]) or NO_SNAPSHOT_HEADER


UNDECIDED: Final = Decision((), "", None)
"""The decision before any experiment file was accepted."""
