"""The slowest rankings of the last hour, kept for operators with stage times and inputs that can be run again.

A ranking is kept if it took longer than the fastest one that is kept of its window of five minutes, so nearly every
ranking costs one comparison. Kept rankings have no id of a user (docs/slow-rankings.md).
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.records import Records
from contract.bundle.context import OFFSET
from contract.events.streams import pseudonym
from service.bundles.bundle import Bundle
from service.connection.exchange import CLIENT_GONE, Exchange
from service.errors import InternalError, RankerError
from service.ranking.call import RankCall
from service.settings.slow import SlowSettings

_WINDOWS: Final = 12
_WINDOW_SECONDS: Final = 300.0
_ENTRY_BYTES: Final = 2_048  # of one ranking beside its arrays


class SlowInputs(NamedTuple):
    """The inputs of a ranking in the model's terms; item 0 is one that the model does not know."""

    records: Records  # (R,) of the user's behaviours
    items: NDArray[np.int64]  # (R,) indices of their items
    candidates: NDArray[np.int64]  # (N,) indices of those that the model knows
    item_count: int  # of the model
    request_time_ms: int
    explain: bool
    context: Mapping[str, object]  # values that the model knows, and the time zone
    described: int  # candidates and behaviours on new items, which features describe


class SlowRanking(NamedTuple):
    """One ranking."""

    seconds: float  # from the decoded request to the written answer
    at_ms: int
    request_id: str
    trace_id: str | None
    user: str  # a pseudonym
    arm: str
    bundle: str  # model@version
    digest: str
    is_interleaved: bool
    status: int
    degraded: Sequence[str]
    stages: Mapping[str, float]  # seconds
    batch_rows: Sequence[int]  # of each run of a model that it joined
    candidates: int
    inputs: SlowInputs | None  # None where it never came to the model

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        if self.inputs is None:
            return _ENTRY_BYTES
        arrays = (self.inputs.records, self.inputs.items, self.inputs.candidates)
        return _ENTRY_BYTES + sum(array.nbytes for array in arrays)


class SlowRankings:
    """See the module. Lives on an event loop, but for `slowest`.

    Args:
        settings: how many, and how large.
        key: of the pseudonyms; without one, pseudonyms hold for this process only.
        now_ms: milliseconds since the epoch.
        clock: seconds; the clock of `RankCall.began`.

    Attributes:
        least: seconds; a ranking that took longer is worth a call of `keep`.
    """

    def __init__(
        self,
        settings: SlowSettings,
        key: bytes | None,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._settings, self._key, self._now_ms, self._clock = settings, key or os.urandom(32), now_ms, clock
        self._windows: deque[list[SlowRanking]] = deque([[]], maxlen=_WINDOWS)  # each from the fastest on
        self._bytes = 0
        self._turning: asyncio.TimerHandle | None = None
        self.least = 0.0

    def start(self) -> None:
        """Begin a new window every five minutes."""
        self._turning = asyncio.get_running_loop().call_later(_WINDOW_SECONDS, self._turn)

    def stop(self) -> None:
        """Begin no further window."""
        if self._turning is not None:
            self._turning.cancel()

    def turn(self) -> None:
        """Begin a window; the rankings of the oldest one are forgotten."""
        if len(self._windows) == _WINDOWS:
            self._bytes -= sum(one.size for one in self._windows[0])
        self._windows.append([])
        self.least = 0.0

    def keep(self, call: RankCall, exchange: Exchange) -> None:
        """Keep a ranking that has ended just now, if it is one of the slowest of its window."""
        seconds = self._clock() - call.began
        if seconds <= self.least:
            return
        window = self._windows[-1]
        one = self._made(call, exchange, seconds)
        insort(window, one, key=_seconds)
        self._bytes += one.size
        if len(window) > self._settings.keep:
            self._bytes -= window.pop(0).size
        self.least = window[0].seconds if len(window) == self._settings.keep else 0.0
        self._keep_within_bytes()

    def slowest(self) -> list[SlowRanking]:
        """Return the slowest rankings of the last hour, the slowest first; may be called from any thread."""
        found = [one for window in list(self._windows) for one in list(window)]
        return sorted(found, key=_seconds, reverse=True)[: self._settings.keep]

    def _turn(self) -> None:
        self.turn()
        self.start()

    def _keep_within_bytes(self) -> None:
        while self._bytes > self._settings.max_bytes:
            window = min((one for one in self._windows if one), key=lambda one: one[0].seconds)
            dropped = window.pop(0)
            self._bytes -= dropped.size
            if window is self._windows[-1]:
                self.least = dropped.seconds  # else the next ranking would be taken and dropped again

    def _made(self, call: RankCall, exchange: Exchange, seconds: float) -> SlowRanking:
        serving = getattr(call, "serving", None)  # not there if no bundle was to be had
        bundle: Bundle | None = call.served or (serving.bundle if serving is not None else None)
        return SlowRanking(
            seconds=seconds,
            at_ms=self._now_ms(),
            request_id=call.request_id,
            trace_id=exchange.trace_id,
            user=pseudonym(call.user_id, self._key),
            arm=call.decision.variant,
            bundle=bundle.name if bundle is not None else "",
            digest=bundle.digest if bundle is not None else "",
            is_interleaved=call.decision.pair is not None,
            status=_status(call),
            degraded=tuple(call.degraded),
            stages=_stages(call, exchange, seconds),
            batch_rows=tuple(run.rows for run in call.runs),
            candidates=len(call.item_ids),
            inputs=_inputs(call, bundle) if bundle is not None else None,
        )


def _seconds(one: SlowRanking) -> float:
    return one.seconds


def _status(call: RankCall) -> int:
    if call.is_gone:
        return CLIENT_GONE
    if call.error is None:
        return 200
    return call.error.status if isinstance(call.error, RankerError) else InternalError.status


def _stages(call: RankCall, exchange: Exchange, seconds: float) -> dict[str, float]:
    """Return the seconds of each stage; those between the first and the last, and in no other, are `other`."""
    found = dict(call.timings)
    done = found.pop("total", None)
    if done is not None:
        found["write"] = seconds - done
    other = seconds - sum(found.values())
    return {"read": call.began - exchange.began, **found, "other": max(other, 0.0)}


def _inputs(call: RankCall, bundle: Bundle) -> SlowInputs | None:
    """Return copies of the inputs: a part of an array would keep the whole batch in memory."""
    row = getattr(call, "row", None)
    if row is None:
        return None
    records = row.records.copy()
    return SlowInputs(
        records, bundle.items.indices_of_keys(records["item"]), row.candidates.copy(), bundle.manifest.item_count,
        row.request_time_ms, row.explain, _known_context(row.context, bundle), len(row.new) + len(row.met),
    )  # fmt: skip


def _known_context(told: Mapping[str, object], bundle: Bundle) -> dict[str, object]:
    """Return those values of the request that the model was trained with; free text stays out."""
    values = {spec.name: spec.values for spec in bundle.manifest.context}
    kept = {name: value for name, value in told.items() if str(value) in values.get(name, ())}
    with suppress(KeyError):
        kept[OFFSET] = told[OFFSET]
    return kept
