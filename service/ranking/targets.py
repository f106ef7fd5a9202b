"""The weights of a bundle's targets in the score, by the parameter `targets` of the user's arm."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from contract.experiments.target_weights import TARGETS, weights_of
from service.bundles.bundle import Bundle
from service.inference.weighing import Weights


def arm_weights(bundle: Bundle, parameters: Mapping[str, object]) -> Weights | None:
    """Return the weight of each of the bundle's targets, in its order; None for the bundle's own.

    A name that the bundle does not have is ignored: the layer's default bundle may answer for an arm's.
    """
    own, text = bundle.manifest.targets, parameters.get(TARGETS)
    if not own or not isinstance(text, str) or not text:
        return None
    return _merged(tuple(own.items()), text)


@lru_cache(maxsize=256)
def _merged(own: tuple[tuple[str, float], ...], text: str) -> Weights | None:
    """Return the bundle's weights overlaid by those of an arm; a file with a malformed text is never accepted."""
    chosen = weights_of(text)
    weights = tuple([chosen.get(name, weight) for name, weight in own])
    return weights if weights != tuple([weight for _, weight in own]) else None
