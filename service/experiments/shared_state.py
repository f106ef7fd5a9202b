"""The accepted state of the experiments as known to this replica, and its agreement with the other replicas.

The store decides. While it is down, a replica continues with the state it knows, and a new file waits: two replicas
never accept different files. A replica that starts while the store is down uses its copy of the last state; without one
it checks its file by itself, logs that, and follows the store when it is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from contract.experiments.history import State, state_from_json, state_to_json
from contract.experiments.problems import ExperimentsError
from service.experiments.state_stores import StateStore, StateUnavailable, read_state_file, write_state_file
from service.flow.threads import Detached

_TRIES: Final = 4  # of a swap in one check, if other replicas swap too
_COPY_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class SharedState:
    """The newest accepted state.

    Args:
        store: shared by all replicas; None if this process is the only replica.
        copy: a file for only this replica with the last state, for a start while the store is down.
        now_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        store: StateStore | None = None,
        copy: Path | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._store, self._copy, self._own_ms = store, copy, now_ms
        self._detached = Detached("experiment-state-copy")
        self.state: State | None = None
        self.is_shared = store is None  # whether the last check reached the store
        self._agreed = False  # whether the state was ever in the store
        self._content: bytes | None = None  # the content of the store at the last check
        self._clock_ms = 0  # how far the store's clock is ahead of this machine's
        self._started = False
        self._said = ""

    @property
    def now_ms(self) -> int:
        """Return the time used to check files: the store's, so that replicas whose clocks differ agree."""
        return self._own_ms() + self._clock_ms

    async def look(self) -> None:
        """Read what other replicas accepted; raises nothing."""
        if not self._started:
            self._started = True
            self.state = await self._read_copy()
            self._agreed = self.state is not None
        if self._store is None:
            return
        try:
            await self._agree(self._store)
            self._note("")
        except StateUnavailable as error:
            self.is_shared = False
            self._note(str(error))

    async def commit(self, new: State) -> bool:
        """Make a state the accepted one; False if another replica was first (check again).

        Raises:
            StateUnavailable: the store is down, and the previous state was shared with other replicas.
        """
        if self._store is not None and self.is_shared:
            content = state_to_json(new)
            if not await self._store.swap(self._content, content):
                return False
            self._content, self._agreed = content, True
        elif self._store is not None and self._agreed:
            raise StateUnavailable("the state store is down: a new file waits until it is back")
        self.state = new
        await self._write_copy()
        return True

    async def _agree(self, store: StateStore) -> None:
        for _ in range(_TRIES):
            reading = await store.read()
            self._content, self._clock_ms = reading.content, reading.now_ms - self._own_ms()
            stored = _parsed(reading.content)
            mine = self.state
            if mine is None or (stored is not None and not self._is_behind(stored, mine)):
                await self._take(stored)
                self.is_shared = True
                return
            content = state_to_json(mine)
            if await store.swap(reading.content, content):
                lost = stored.revision if stored is not None else 0
                _log.warning("experiments_state_restored", revision=mine.revision, stored_revision=lost)
                self._content, self._agreed, self.is_shared = content, True, True
                return
        raise StateUnavailable("other replicas write the state all the time")

    def _is_behind(self, stored: State, mine: State) -> bool:
        """Return whether the store lost an accepted state: a failover, or a restored backup."""
        return self._agreed and stored.revision < mine.revision

    async def _take(self, stored: State | None) -> None:
        mine = self.state
        if stored is None or (mine is not None and mine == stored):
            self._agreed = stored is not None
            return
        if mine is not None and not self._agreed and mine.file.digest != stored.file.digest:
            _log.error("experiments_state_overruled", digest=stored.file.digest, was=mine.file.digest)
        self.state, self._agreed = stored, True
        await self._write_copy()

    async def _read_copy(self) -> State | None:
        path = self._copy
        if path is None:
            return None
        try:
            return _parsed(await self._detached.run(lambda: read_state_file(path), _COPY_SECONDS))
        except (OSError, TimeoutError, StateUnavailable) as error:
            _log.warning("experiments_state_copy_unreadable", error=str(error) or type(error).__name__)
            return None

    async def _write_copy(self) -> None:
        path, state = self._copy, self.state
        if path is None or state is None:
            return
        try:
            await self._detached.run(lambda: write_state_file(path, state_to_json(state)), _COPY_SECONDS)
        except (OSError, TimeoutError) as error:
            _log.warning("experiments_state_copy_not_written", error=str(error) or type(error).__name__)

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._said:
            revision = self.state.revision if self.state is not None else None
            _log.error("experiments_state_unavailable", error=trouble, revision=revision)
        elif self._said and not trouble:
            _log.info("experiments_state_available")
        self._said = trouble


def _parsed(content: bytes | None) -> State | None:
    try:
        return state_from_json(content) if content is not None else None
    except ExperimentsError as error:
        raise StateUnavailable("; ".join(error.problems)) from error
