"""The users, items, bundles and requests of fault runs, and the score that every answer must have.

All ids carry a mark, so that a log line with an id is found. Each bundle's scores are in a range of their own, so that
an answer that mixes two bundles is found. Each request has a user and candidates of its own, so that an answer that
reaches another caller is found.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.load.workload import store
from contract.behaviours.records import pack
from deploy.experiments import write_current
from tests.support.builders import TinyModel, behaviours

MARK: Final = "canary"
MODELS: Final = ("mgnm", "pyramid_mixer")  # of the two arms
USERS: Final = 60
REQUESTS: Final = 480
_ITEMS: Final = 60
_CANDIDATES: Final = 12
_APART: Final = 8.0  # between the score ranges of two bundles; all scores of one are within 3
_TOLERANCE: Final = 1e-4  # of a score
_RANGES: Final = 16  # of versions; larger scores would be less precise (float32) than the oracle's comparison


@dataclass(frozen=True)
class CanaryModel(TinyModel):
    """A tiny model over items whose ids carry the mark."""

    items: int = _ITEMS

    @property
    def item_ids(self) -> list[str]:
        """Return ids in index order, from index 1."""
        return [item(index) for index in range(1, self.items + 1)]


def item(index: int) -> str:
    return f"{MARK}-item-{index}"


def user(number: int) -> str:
    return f"{MARK}-user-{number:03d}"


def model(name: str, version: str = "1", **parts: Any) -> CanaryModel:
    """Return a bundle in a score range that no other model has, and of its versions only each sixteenth."""
    return CanaryModel(model=name, version=version, offset=offset(name, version), **parts)


def offset(name: str, version: str) -> float:
    return _APART * (2 * (int(version) % _RANGES) + MODELS.index(name))


@dataclass(frozen=True)
class Asked:
    """One request and its answer's oracle."""

    number: int
    user: str
    candidates: tuple[str, ...]
    full: dict[str, float]  # score of each candidate, without the offset of the bundle
    cold: dict[str, float]  # the same for a user without a history

    @property
    def request_id(self) -> str:
        return f"fault-{self.number}"

    @property
    def body(self) -> bytes:
        return orjson.dumps({"user_id": self.user, "candidates": self.candidates})

    def bytes(self, deadline_ms: int, path: str = "/rank", body: bytes | None = None) -> bytes:
        content = self.body if body is None else body
        head = (
            f"POST {path} HTTP/1.1\r\nhost: faults\r\ncontent-type: application/json\r\nx-request-id: {self.request_id}"
            f"\r\nx-deadline-ms: {deadline_ms}\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content


class World:
    """Seeded histories and requests."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        plain = CanaryModel()
        self.histories = {
            user(number): [draw.randint(1, _ITEMS) for _ in range(draw.randint(0, 8))] for number in range(USERS)
        }
        self.asked = [self._asked(number, plain, draw) for number in range(REQUESTS)]

    def _asked(self, number: int, plain: TinyModel, draw: random.Random) -> Asked:
        one = user(number % USERS)
        picked = draw.sample(range(1, _ITEMS + 1), _CANDIDATES)
        ids = [item(index) for index in picked]
        full, cold = (
            dict(zip(ids, (float(score) for score in plain.expected(past, picked)), strict=True))
            for past in (self.histories[one], [])
        )
        return Asked(number, one, (*ids, ids[0]), full, cold)  # the first one twice: answers have it once

    def store(self, url: str) -> None:
        """Write the histories to Redis."""
        store(url, {one: self.stored(one) for one, past in self.histories.items() if past})

    def stored(self, one: str) -> bytes:
        """Return a user's stored value."""
        return pack(behaviours([item(index) for index in self.histories[one]]))

    def write(self, folder: Path, versions: tuple[str, ...] = ("1",), parts: Mapping[str, Any] = {}) -> None:
        """Write the bundles of both arms, and an experiment file that names them."""
        for name in MODELS:
            for version in versions:
                model(name, version, **parts).write(folder / "bundles")
        write_current(folder / "experiments.yaml", versions=dict.fromkeys(MODELS, versions[0]))


def is_near(found: float, expected: float) -> bool:
    return abs(found - expected) <= _TOLERANCE
