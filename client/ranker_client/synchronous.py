"""The blocking client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from ranker_client import calls, results
from ranker_client.calls import Call, answer_of
from ranker_client.errors import RankerError, Refused
from ranker_client.retries import Budget, Retries
from ranker_client.waits import BudgetTransport, within
from ranker_client.wire import default_headers, meaning_of, parts_of, pause_before_next

T = TypeVar("T")
Json = Mapping[str, Any]


class RankerClient:
    """Calls one service; keeps its connections open between calls. Safe to share between threads.

    Args:
        url: of the service, such as `http://localhost:8000` or `https://ranker.example/v1`.
        api_key: if the service asks for one.
        budget: seconds that a call may take, all attempts together; the service learns what is left.
        retries: when a call is sent again.
        connections: the most that are open at once.
        compress: whether to send large requests with gzip.
        transport: of httpx, for tests, proxies and TLS of your own.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        budget: float = 1.0,
        retries: Retries | None = None,
        connections: int = 20,
        compress: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._budget, self._retries, self._compress = budget, retries or Retries(), compress
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=60)
        self._http = httpx.Client(
            base_url=url, headers=default_headers(api_key), transport=transport or BudgetTransport(limits),
            follow_redirects=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Return the client; it is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def rank(
        self,
        user_id: str,
        candidates: Sequence[str],
        *,
        budget: float | None = None,
        request_id: str | None = None,
        **fields: Any,
    ) -> results.Ranking:
        """Order candidates for a user, best first.

        Args:
            user_id: of the user; may be unknown to the service.
            candidates: item ids.
            budget: seconds, instead of the client's.
            request_id: as X-Request-Id.
            fields: further fields of the request: limit, recent, attributes, context, ... (docs/http-api.md).

        Raises:
            Refused: the service answered with an error.
            DeadlinePassed: no answer in time.
            NoAnswer: the service could not be reached.
        """
        return self._run(calls.rank(user_id, candidates, fields), budget, request_id)

    def rank_batch(self, rankings: Iterable[Json], *, shown: bool, budget: float = 10.0) -> list[results.RankResult]:
        """Rank for many users; each ranking is answered or refused by itself.

        Args:
            rankings: bodies of rankings, each with `user_id` and `candidates`.
            shown: whether users will see the lists; False writes no exposures.
            budget: seconds for all of them.
        """
        return self._run(calls.rank_batch(rankings, shown), budget)

    def append_behaviours(self, behaviours: Iterable[Json], *, budget: float | None = None) -> results.Appended:
        """Store behaviours; the next ranking sees them."""
        return self._run(calls.append_behaviours(behaviours), budget)

    def store_items(self, items: Iterable[Json], *, budget: float | None = None) -> results.ItemsStored:
        """Store features of items."""
        return self._run(calls.store_items(items), budget)

    def send_feedback(
        self, events: Iterable[Json], *, wait: bool = False, budget: float | None = None
    ) -> results.FeedbackTaken:
        """Send activity for the analysis; with `wait`, until Redis has it."""
        return self._run(calls.send_feedback(events, wait), budget)

    def info(self, *, budget: float | None = None) -> results.Info:
        """Return what the service is."""
        return self._run(calls.info(), budget)

    def is_ready(self, *, budget: float | None = None) -> bool:
        """Return whether rankings are taken."""
        try:
            return self._run(calls.is_ready(), budget)
        except RankerError:
            return False

    def _run(self, call: Call[T], budget: float | None = None, request_id: str | None = None) -> T:
        left = Budget(self._budget if budget is None else budget)
        headers = {"x-request-id": request_id} if request_id else {}
        attempt = 0
        while True:
            try:
                return self._try(call, left, headers)
            except _Failed as failed:
                pause = pause_before_next(self._retries, attempt, failed.error, left) if failed.may_repeat else None
                if pause is None:
                    raise failed.error from failed.__cause__
            attempt += 1
            time.sleep(pause)

    def _try(self, call: Call[T], budget: Budget, headers: dict[str, str]) -> T:
        parts = parts_of(call, budget, headers, compress=self._compress)
        try:
            with within(budget):
                response = self._http.request(call.method, call.path, **parts)
            return answer_of(call, response)
        except Refused as refused:
            raise _Failed(refused, may_repeat=call.is_safe or refused.status == 429) from None
        except httpx.RequestError as error:
            meaning, may_repeat = meaning_of(error, call)
            raise _Failed(meaning, may_repeat=may_repeat) from error


class _Failed(Exception):  # noqa: N818 - passes from one attempt to the loop around them
    def __init__(self, error: RankerError, *, may_repeat: bool) -> None:
        super().__init__(str(error))
        self.error, self.may_repeat = error, may_repeat
