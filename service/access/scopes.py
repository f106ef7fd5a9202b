"""Scopes, and the one table of which scope a path needs.

A path needs the same scope with every method, so that a wrong method tells nothing to those who may not use the path.
"""

from __future__ import annotations

from typing import Final, Literal

Scope = Literal["rank", "write", "read-history", "metrics", "admin"]

OPEN: Final = frozenset({"/health/live", "/health/ready"})  # probes and balancers have no key
SCOPES: Final[dict[str, Scope]] = {
    "/rank": "rank",
    "/rank/batch": "rank",
    "/behaviours": "write",
    "/feedback": "write",
    "/items": "write",
    "/info": "admin",
    "/metrics": "metrics",
    "/debug/slow": "admin",
    "/docs": "admin",
    "/openapi.json": "admin",
    "/": "admin",
}
BELOW: Final[dict[str, Scope]] = {
    "/behaviours/": "read-history",  # followed by a user
    "/page/": "admin",
}


_INCLUDED: Final[dict[Scope, frozenset[Scope]]] = {"admin": frozenset({"metrics"})}
"""The scopes that another one includes."""


def with_included(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Return the scopes of a caller together with those that they include."""
    return scopes.union(*(_INCLUDED.get(scope, frozenset()) for scope in scopes))


def scope_of(path: str) -> Scope | None:
    """Return the scope that a path needs; None for a path that no route has: any key may learn that."""
    scope = SCOPES.get(path)
    if scope is None:
        for beginning, below in BELOW.items():
            if path.startswith(beginning):
                return below
    return scope
