"""Callers with API keys for tests: one for each scope, one with all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from service.access.file import read_access
from service.access.keys import hash_of
from service.settings.root import Settings
from tests.support.fakes import PATIENT, Edge

SCOPES: Final = ("rank", "write", "read-history", "metrics", "admin")


def key_of(name: str) -> str:
    """Return the key of a caller in tests."""
    return "rk_" + (name + "-" * 43)[:43]


def bearer(name: str) -> dict[str, str]:
    """Return the header of a caller."""
    return {"Authorization": f"Bearer {key_of(name)}"}


def entry(name: str, *scopes: str, keys: tuple[str, ...] = (), **quota: float) -> dict[str, Any]:
    """Return a caller of the file; its key is that of its name, unless given."""
    return {
        "id": name, "keys": [hash_of(key_of(key)) for key in keys or (name,)], "scopes": list(scopes), "quota": quota
    }  # fmt: skip


def document(*entries: dict[str, Any]) -> bytes:
    """Return the bytes of an access file: those callers, or one for each scope and `all`."""
    chosen = entries or (*(entry(scope, scope) for scope in SCOPES), entry("all", *SCOPES))
    return json.dumps({"callers": chosen}).encode()


class KeyedEdge(Edge):
    """The whole HTTP layer before fakes, for callers with keys."""

    def __init__(self, settings: Settings = PATIENT, *entries: dict[str, Any]) -> None:
        access = settings.access.model_copy(update={"file": Path("access.yaml")})
        super().__init__(settings.model_copy(update={"access": access}))
        self.put(*entries)

    def put(self, *entries: dict[str, Any]) -> None:
        """Put callers in force."""
        assert self.runtime.keys is not None
        self.runtime.keys.put(read_access(document(*entries)))
