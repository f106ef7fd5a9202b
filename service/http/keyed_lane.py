"""The short way of `POST /rank` where callers have API keys: a ranking may be taken if its key has the scope `rank`.

All others go the long way, which explains each refusal.
"""

from __future__ import annotations

from typing import Final

from service.access.access import Access
from service.access.callers import Key
from service.connection.exchange import Exchange, Headers
from service.connection.lane import Caller
from service.http.prepared import PreparedAnswer
from service.http.rank_decoder import RankBody
from service.http.rank_lane import LaneCall, RankLane
from service.runtime import Backend, Runtime

_KEY_HEADER: Final = b"authorization"


def rank_lane(runtime: Runtime) -> RankLane:
    """Return the short way of a service."""
    return RankLane(runtime) if runtime.keys is None else KeyedLane(runtime, runtime.keys)


class KeyedLane(RankLane):
    """See the module.

    Args:
        runtime: the service's state.
        keys: checks API keys.
    """

    def __init__(self, runtime: Runtime, keys: Access) -> None:
        super().__init__(runtime)
        self._keys = keys
        self._key: Key | None = None  # of the request that `refusal` has looked at and `take` may take, in one step
        self._prepared = _KeyedAnswer(self._endings, runtime.settings.experiments.show_bucket)

    def suits(self, headers: Headers) -> bool:
        """Return whether the headers are those that nearly all callers send, with one key."""
        return super().suits(headers) and sum(name == _KEY_HEADER for name, _ in headers) == 1

    def refusal(self, headers: Headers, budget: float) -> bytes | None:
        """Return the answer to a ranking that is one too many; None: it may be taken, or goes the long way."""
        self._key = self._keys.allowed(headers, "rank")
        if self._key is None:
            return None
        self._gate = self._key.caller.rankings
        content = super().refusal(headers, budget)
        if content is not None:
            self._metrics.caller_answered(self._key.caller.id, "overloaded")
        return content

    def take(
        self, caller: Caller, headers: Headers, body: bytes, budget: float, arrived: float, began: float, waited: float
    ) -> LaneCall | None:
        """Rank for a caller; None: the request goes the long way."""
        if self._key is None:
            return None
        return super().take(caller, headers, body, budget, arrived, began, waited)

    def _call_of(
        self, caller: Caller, exchange: Exchange, backend: Backend, wanted: RankBody, deadline: float
    ) -> LaneCall:
        call = super()._call_of(caller, exchange, backend, wanted, deadline)
        exchange.key = self._key
        if self._key is not None:
            self._key.caller.meter.count("requests")
            self._key.caller.meter.count("candidates", len(call.item_ids))
        return call


class _KeyedAnswer(PreparedAnswer):
    """A ranking's answer with what is left of the caller's quota."""

    def _own_lines(self, exchange: Exchange) -> bytes:
        fields = exchange.key.caller.meter.fields() if exchange.key is not None else []
        return super()._own_lines(exchange) + b"".join([b"%b: %b\r\n" % field for field in fields])
