"""The context of a request: the names that no model reads, and the inputs that the request left unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from service.bundles.bundle import Bundle
from service.inference.scorer import ScoredRow

RESULTS: Final = ("known", "missing", "unknown")
"""An input has a code; the request does not name it; training did not have its value."""


def ignored(told: Mapping[str, object], *bundles: Bundle) -> tuple[str, ...]:
    """Return the names of a request's context that none of the bundles reads."""
    read = [bundle.context.names for bundle in bundles if bundle.context is not None]
    return tuple(name for name in told if not any(name in names for names in read))


def results(told: Mapping[str, object], bundle: Bundle, scored: ScoredRow) -> Iterator[tuple[str, str]]:
    """Yield each attribute that the bundle reads, and what the request had for it (RESULTS)."""
    if scored.context is None:
        return
    for spec, code in zip(bundle.manifest.context, scored.context.tolist(), strict=True):
        if spec.kind == "category":
            yield spec.name, "known" if code else "unknown" if spec.name in told else "missing"
