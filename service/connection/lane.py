"""The interfaces between a connection and the short way of rankings (service/http/rank_lane.py)."""

from __future__ import annotations

from typing import Protocol

from service.connection.exchange import Headers


class LaneCall(Protocol):
    """A ranking in progress, instead of uvicorn's cycle of one request and its answer."""

    keep_alive: bool
    response_started: bool
    response_complete: bool
    disconnected: bool

    def abandon(self) -> None:
        """Stop: the caller has gone."""


class Caller(Protocol):
    """The receiver of an answer."""

    def answer(self, call: LaneCall, content: bytes) -> None:
        """Write an answer."""


class Lane(Protocol):
    """The short way."""

    def suits(self, headers: Headers) -> bool:
        """Return whether the headers are those that nearly all callers send."""

    def budget(self, headers: Headers) -> float:
        """Return the seconds that a request may take."""

    def take(
        self, caller: Caller, headers: Headers, body: bytes, budget: float, arrived: float, began: float, waited: float
    ) -> LaneCall | None:
        """Rank for a caller; None: the request goes the long way."""

    def refusal(self, headers: Headers, budget: float) -> bytes | None:
        """Return the answer to a ranking that is one too many; None: it may be taken."""
