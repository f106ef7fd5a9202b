"""The service of the corpus: real processes and a real Redis, on models, histories and experiments that never change.

The scores are exact on every machine: all numbers of the models are multiples of 1/64, histories are 0, 1, 2 or 4
items long, and no sum needs more bits than float32 has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES, ACTIONS
from contract.behaviours.records import Records, item_keys, pack, records_from_columns
from deploy.experiments import current
from tests.support.builders import WIDTH, TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

SECRET = "of-the-corpus-and-long-enough-for-the-service"
START_MS = 1_700_000_000_000
_EXPERIMENTS = Path(__file__).with_name("experiments.yaml")
_MODELS = ("mgnm", "pyramid_mixer", "timed")
_TIED_FROM = 25  # items from this number on have equal scores


@dataclass(frozen=True)
class ExactModel(TinyModel):
    """A tiny model whose scores have no rounding; `timed` scores only by the request's time."""

    items: int = 32
    length: int = 4

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Return item vectors (items + 1, WIDTH): multiples of 1/64 within 1/2, zeros at 0."""
        rows, columns = np.minimum(np.arange(self.items + 1), _TIED_FROM)[:, None], np.arange(WIDTH)
        shift = 11 if self.model == "mgnm" else 23
        table = ((rows * 37 + columns * 29 + shift) % 65 - 32) / 64
        table[0] = 0
        return np.asarray(table * (self.model != "timed"), dtype=np.float32)

    @property
    def bias(self) -> NDArray[np.float32]:
        """Return what each item's score starts from, (items + 1,): multiples of 1/64."""
        numbers = np.minimum(np.arange(self.items + 1), _TIED_FROM)
        return np.asarray((numbers * 29 % 64) / 64, dtype=np.float32)


def _records(numbers: list[int], action: str = "click", play_ms: int = 0, value: float = 0) -> Records:
    return records_from_columns(
        item_keys([f"i{number}" for number in numbers]),
        START_MS + np.arange(len(numbers)),
        np.full(len(numbers), ACTION_CODES[action], dtype=np.uint8),
        np.full(len(numbers), play_ms),
        np.full(len(numbers), float(value)),
    )


def histories() -> dict[str, bytes]:
    """Return what Redis has of each user."""
    kinds = np.concatenate([_records([number + 1], action) for number, action in enumerate(ACTIONS)])
    stored = {f"u{number}": pack(_records([1 + number % 24])) for number in range(0, 40, 2)}
    return stored | {
        "two": pack(_records([3, 9])),
        "four": pack(_records([3, 9, 12, 20], "play", play_ms=90_000)),
        "long": pack(_records([1 + place % 31 for place in range(600)], "finish", value=4.5)),
        "kinds": pack(kinds),
        "looker": pack(_records([5] * 30, "impression")),
        "foreign": pack(_records([1_000, 1_001])),
        "partly": pack(_records([1_000, 7, 1_001])),
        "torn": pack(_records([3, 9]))[:-5],
        "corrupt": b"\xff" * 100,
        "empty": b"",
    }


class Rig:
    """One service and its Redis; `begin` starts them, `settings` are the service's without their prefix."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.redis = RedisServer()
        folder.mkdir(parents=True, exist_ok=True)
        document = current(source=_EXPERIMENTS)
        (folder / "experiments.yaml").write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
        for model in _MODELS:
            replace(ExactModel(), model=model, reads_time=model == "timed").write(folder / "bundles")
        self.service = ServiceProcess(
            folder, self.redis.url, HTTP__BEHAVIOURS_ENABLED="true", HTTP__DOCS_ENABLED="true",
            EXPERIMENTS__OVERRIDE_SECRET=SECRET,
            EXPERIMENTS__RELOAD_MS="600000", **settings,
        )  # fmt: skip

    def fill(self) -> None:
        """Put the histories into Redis."""
        for user, value in histories().items():
            self.redis.call("SET", f"bhv:{{{user}}}", value)
        self.redis.call("LPUSH", "bhv:{wrong}", "x")

    def close(self) -> None:
        self.service.close()
        self.redis.close()


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Rig]:
    """Run a service that is ready."""
    rig = Rig(folder, **settings)
    try:
        rig.redis.start()
        rig.fill()
        rig.service.start()
        yield rig
    finally:
        rig.close()
