"""Metrics of requests and connections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from contract.events.activity import ActivityType
from service.metrics.buckets import LATENCY
from service.metrics.families import Families
from service.metrics.values import Counter, Histogram, Made
from service.names import RefusalReason

_DURATION: Final = "ranker_request_duration_seconds"
_OF_CALLERS: Final = ("/rank", "/behaviours", "/feedback", "/items")
REFUSALS: Final = ("overloaded", "deadline_exceeded", "not_ready", "too_large")
CLOSED: Final = ("too_many", "slow_head", "slow_body", "slow_reader")


class HttpMetrics:
    """Counts requests and connections.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        self._requests = families.counter("ranker_requests_total", "Answers sent.", route=(), status=(), variant=())
        self._durations = families.histogram(
            _DURATION, "From the request's headers to the last byte of a successful answer.",
            LATENCY, route=(), variant=(),
        )  # fmt: skip
        self._exemplars = families.exemplars
        self._answered: Made[tuple[str, int, str], tuple[Counter, Histogram | None]] = Made(self._of_answer)
        self._inflight = families.gauge("ranker_inflight_requests", "Requests being answered.", "sum").of()
        self._connections = families.gauge("ranker_connections", "Open connections.", "sum").of()
        self._closed = families.counter(
            "ranker_connections_refused_total", "Connections ended by the server.", reason=CLOSED
        )
        self._rejected = families.counter("ranker_rejected_total", "Requests refused, by reason.", reason=REFUSALS)
        self._ready = families.gauge("ranker_ready", "1 while the service takes rankings.", "min").of()
        self._declare_writes(families)

    def _declare_writes(self, families: Families) -> None:
        results = ("stored", "repeated", "refused")
        self._written = families.counter(
            "ranker_behaviours_written_total", "Behaviours sent to be stored.", result=results
        )
        self._items = families.counter(
            "ranker_items_written_total", "Items whose features were sent to be stored.", result=("stored", "refused")
        )
        self._refused = families.counter(
            "ranker_behaviours_refused_total", "Behaviours refused, by reason.", reason=get_args(RefusalReason)
        )
        self._feedback = families.counter(
            "ranker_feedback_total", "Activity taken for the analysis.", action=get_args(ActivityType)
        )
        self._feedback_dropped = families.counter("ranker_feedback_dropped_total", "Activity that found no room.").of()
        self._feedback_refused = families.counter(
            "ranker_feedback_refused_total", "Activity whose time cannot be right."
        ).of()
        self._feedback_clamped = families.counter(
            "ranker_feedback_clamped_total", "Activity whose time was more than a day from the clock, and was moved."
        ).of()

    def _of_answer(self, key: tuple[str, int, str]) -> tuple[Counter, Histogram | None]:
        """Return what an answer counts in; only good ones have durations, or fast refusals would look like speed."""
        route, status, variant = key
        duration = self._durations.of(route, variant) if status < 400 else None
        return self._requests.of(route, str(status), variant), duration

    def request_started(self) -> None:
        """Count a request in."""
        self._inflight.value += 1

    def request_finished(self, route: str, status: int, variant: str, seconds: float) -> None:
        """Count a request out."""
        self._inflight.value -= 1
        answers, durations = self._answered[route, status, variant]
        answers.value += 1
        if durations is not None:
            durations.observe(seconds)

    def asked(self) -> float:
        """Return how many requests of callers have been answered; health checks and scrapes are not counted."""
        counted = self._answered.items()
        return sum(answers.value for (route, _, _), (answers, _) in counted if route.startswith(_OF_CALLERS))

    def traced(self, route: str, status: int, variant: str, seconds: float, trace_id: str) -> None:
        """Note the trace of a request, beside its duration."""
        if status < 400:
            self._exemplars.note(_DURATION, (route, variant), LATENCY, seconds, trace_id)

    def ranking_shed(self) -> None:
        """Count a ranking that was refused at once, as one too many."""
        self._answered["/rank", 429, "none"][0].value += 1
        self._rejected.of("overloaded").value += 1

    def refused_by_protocol(self, status: int) -> None:
        """Count an answer to something that never became a request."""
        self._requests.of("none", str(status), "none").inc()

    def connections(self, count: int) -> None:
        """Note how many connections are open."""
        self._connections.value = count

    def connection_refused(self, reason: str) -> None:
        """Count a connection that the server ended: slow headers, slow body, too many, ..."""
        self._closed.of(reason).inc()

    def rejected(self, reason: str) -> None:
        """Count a request that was refused, by a closed list of reasons."""
        self._rejected.of(reason).inc()

    def ready(self, is_ready: bool) -> None:
        """Note whether rankings are taken."""
        self._ready.value = is_ready

    def behaviours_written(self, *, stored: int, repeated: int, refused: Mapping[RefusalReason, int]) -> None:
        """Count behaviours that were sent to be stored; `refused` by reason."""
        for result, count in (("stored", stored), ("repeated", repeated), ("refused", sum(refused.values()))):
            self._written.of(result).inc(count)
        for reason, count in refused.items():
            self._refused.of(reason).inc(count)

    def items_written(self, *, stored: int, refused: int) -> None:
        """Count items whose features were sent to be stored."""
        self._items.of("stored").inc(stored)
        self._items.of("refused").inc(refused)

    def feedback(self, action: str) -> None:
        """Count activity that was taken."""
        self._feedback.of(action).inc()

    def feedback_dropped(self, _labels: tuple[str, ...] = ()) -> None:
        """Count activity that found no room."""
        self._feedback_dropped.inc()

    def feedback_clamped(self) -> None:
        """Count activity whose time was moved to within a day of the clock."""
        self._feedback_clamped.inc()

    def feedback_refused(self) -> None:
        """Count activity whose time is too far ahead of the clock."""
        self._feedback_refused.inc()
