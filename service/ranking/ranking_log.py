"""The ranking log: what each ranking of a sampled unit answered. Never awaited; its bytes are made by the flusher.

A unit is in the sample by a hash of its own, alike in all arms. A dropped event is counted for every arm of the unit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from contract.events.ranking_log import RANKING_SCHEMA, RankingOutcome, is_sampled
from contract.events.streams import pseudonym, ulid
from contract.experiments.decision import Decision
from service.errors import RankerError
from service.ranking.call import RankCall
from service.settings.ranking_log import RankingLogSettings
from service.store.streams import EventSink

_NO_ARM: Final = ("none", "none")


class RankingLog:
    """Notes rankings; never waits and never fails a request.

    Args:
        sink: takes each event, with experiment and arm of each layer of the unit for counting.
        settings: the share of units, the length of the lists, the attributes to keep.
        on_logged: called with those labels for each event that the sink took.
        pseudonym_key: as of the exposures.
    """

    def __init__(
        self,
        sink: EventSink,
        settings: RankingLogSettings,
        *,
        on_logged: Callable[[tuple[str, ...]], None],
        pseudonym_key: bytes | None = None,
    ) -> None:
        self._sink, self._on_logged, self._pseudonym_key = sink, on_logged, pseudonym_key
        self._share, self._top, self._attributes = settings.share, settings.top, settings.attributes

    def record(self, call: RankCall, outcome: RankingOutcome, time_ms: int) -> None:
        """Note a ranking that has ended, if its unit is in the sample."""
        unit = call.decision.unit
        if unit is None or (self._share < 1 and not is_sampled(unit, self._share)):
            return
        event = _Ranked(call, outcome, time_ms, self._top, self._pseudonym_key)
        if self._attributes:
            event.attributes = {name: call.attributes[name] for name in self._attributes if name in call.attributes}
        labels = arms_of(call.decision)
        if self._sink.offer(event, labels):
            self._on_logged(labels)


class _Ranked:
    """One ranking in the queue: no more of it than its event needs, because thousands may wait while Redis is down."""

    __slots__ = (
        "answered", "attributes", "candidates", "decision", "items", "key", "latency_us", "merged", "moved", "outcome",
        "reasons", "request_id", "scores", "served", "time_ms",
    )  # fmt: skip

    def __init__(self, call: RankCall, outcome: RankingOutcome, time_ms: int, top: int, key: bytes | None) -> None:
        answer = call.answer
        self.request_id, self.decision, self.outcome, self.time_ms = call.request_id, call.decision, outcome, time_ms
        self.latency_us = int((time.perf_counter() - call.began) * 1_000_000)
        self.candidates, self.key = len(call.item_ids), key
        self.attributes: Mapping[str, object] | None = None
        self.merged: tuple[list[str | None], list[list[int | None]]] | None = None
        self.moved: Mapping[str, int] | None = None
        if answer is None:
            self.items: Sequence[str] = ()
            self.scores, self.answered = list[float | None](), 0
            self.served: tuple[str, str] | tuple[None, None] = (None, None)
            self.reasons: tuple[str, ...] = (call.error.code,) if isinstance(call.error, RankerError) else ()
        else:
            self.items, self.scores, self.answered = answer.item_ids[:top], answer.scores[:top], len(answer.item_ids)
            self.reasons, self.served = answer.degraded, (answer.model, answer.version)
            if answer.moved is not None:
                self.moved = answer.moved.counts
            if answer.merged is not None:
                self.merged = answer.merged.teams[:top], answer.merged.ranks[:top]

    def __bytes__(self) -> bytes:
        """Return the event as JSON."""
        event = self._event()
        if self.merged is not None:
            event["teams"], event["ranks"] = self.merged
        if self.decision.rules:
            event["rules"] = self.decision.rules
        if self.moved is not None:
            event["moved"] = self.moved
        return orjson.dumps(event)

    def _event(self) -> dict[str, Any]:
        return {
            "v": RANKING_SCHEMA,
            "id": ulid(self.time_ms),
            "ts": self.time_ms,
            "req": self.request_id,
            "unit": pseudonym(self.decision.unit or "", self.key),
            "arms": [
                {"layer": layer.layer, "exp": layer.experiment, "arm": layer.arm, "forced": int(layer.forced)}
                for layer in self.decision.assigned
            ],
            "model": self.served[0],
            "ver": self.served[1],
            "outcome": self.outcome,
            "reasons": self.reasons,
            "latency_us": self.latency_us,
            "n_cand": self.candidates,
            "k": self.answered,
            "items": self.items,
            "scores": self.scores,
            "attributes": self.attributes,
        }


def arms_of(decision: Decision) -> tuple[str, ...]:
    """Return experiment and arm of each layer, one after another; `none` twice for a unit in no experiment."""
    arms = [part for layer in decision.assigned for part in (layer.experiment, layer.arm)]
    return tuple(map(str, arms)) if arms else _NO_ARM
