"""The context of a request: what a model read of it, and the names that no model reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from contract.bundle.context import OFFSET, ContextSpec
from service.bundles.bundle import Bundle
from service.inference.scorer import ScoredRow

RESULTS: Final = ("known", "missing", "unknown")
"""An input has a code; the request does not name it; training did not have its value."""


@dataclass(frozen=True, slots=True)
class ContextRead:
    """An input of the context as a model read it.

    Attributes:
        value: the hour of the user's day; seconds since the newest behaviour that was read; the attribute's text. None
            if the model read "not known".
        code: the model's input; 0 means not known.
        result: how it was found; see `service.http.answers`.
    """

    value: int | str | None
    code: int
    result: Literal["known", "default", "missing", "unknown"]


def read_of(told: Mapping[str, object], time_ms: int, bundle: Bundle, scored: ScoredRow) -> dict[str, ContextRead]:
    """Return the inputs that the model read in this request, by name; none if it reads no context."""
    if scored.context is None:
        return {}
    codes = scored.context.tolist()
    return {
        spec.name: _read(spec, code, told, time_ms, scored.newest_ms)
        for spec, code in zip(bundle.manifest.context, codes, strict=True)
    }


def _read(spec: ContextSpec, code: int, told: Mapping[str, object], time_ms: int, newest_ms: int | None) -> ContextRead:
    if spec.kind == "hour":
        return ContextRead(code - 1, code, "known" if OFFSET in told else "default")
    if spec.kind == "gap":
        if newest_ms is None:
            return ContextRead(None, code, "missing")
        return ContextRead(max(0, time_ms - newest_ms) // 1_000, code, "known")
    return ContextRead(spec.values[code - 1] if code else None, code, _category(spec.name, code, told))


def _category(name: str, code: int, told: Mapping[str, object]) -> Literal["known", "missing", "unknown"]:
    return "known" if code else "unknown" if name in told else "missing"


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
            yield spec.name, _category(spec.name, code, told)
