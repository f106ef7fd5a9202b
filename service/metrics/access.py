"""Metrics of callers with API keys."""

from __future__ import annotations

import time
from typing import Final

from service.metrics.families import Families
from service.metrics.values import Counter, Made
from service.names import CallerOutcome

RESULTS: Final = ("accepted", "unchanged", "unreadable", "invalid")


class AccessMetrics:
    """Counts requests of each caller, and looks at the access file.

    Args:
        families: where they are declared.
    """

    def __init__(self, families: Families) -> None:
        of_callers = families.counter(
            "ranker_caller_requests_total", "Requests of callers with an API key; `none` has no key in force.",
            caller=(), outcome=(),
        )  # fmt: skip
        self._of_callers: Made[tuple[str, CallerOutcome], Counter] = Made(lambda key: of_callers.of(*key))
        self._looks = families.counter("ranker_access_reload_total", "Looks at the access file.", result=RESULTS)
        self._good_at = families.gauge(
            "ranker_access_last_success_timestamp_seconds",
            "When the access file was last found to be the one in force; 0 without a file.", "min",
        ).of()  # fmt: skip

    def caller_answered(self, caller: str, outcome: CallerOutcome) -> None:
        """Count a request; `caller` is an id of the access file, or `none`."""
        self._of_callers[caller, outcome].value += 1

    def access_reloaded(self, result: str) -> None:
        """Count a look at the access file."""
        self._looks.of(result).inc()
        if result in {"accepted", "unchanged"}:
            self._good_at.value = time.time()
