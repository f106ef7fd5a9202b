"""The rule for repeated calls: only if a repeat is safe, and only while there is time."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ranker_client.errors import NoAnswer, RankerError, Refused

_REPEATABLE = frozenset({429, 503})  # refused before any work, or safe to send again as a whole


@dataclass(frozen=True)
class Retries:
    """How often, and how long to wait between.

    Attributes:
        most: further attempts after the first.
        first_pause: seconds before the first of them, doubled each time, with chance.
        longest_pause: seconds; a longer `Retry-After` of the service counts in any case.
    """

    most: int = 2
    first_pause: float = 0.02
    longest_pause: float = 1.0

    def pause(self, attempt: int, error: RankerError) -> float | None:
        """Return the seconds to wait after an attempt (from 0) that failed; None: it is not to be repeated."""
        if attempt >= self.most or not _is_repeatable(error):
            return None
        backoff: float = min(self.first_pause * 2**attempt, self.longest_pause) * random.uniform(0.5, 1.0)
        asked = error.retry_after if isinstance(error, Refused) else None
        return max(backoff, asked or 0.0)


class Budget:
    """The time that a call may take, all attempts together.

    Args:
        seconds: of the whole call.
    """

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Return the seconds that are left; 0 if none are."""
        return max(0.0, self._ends - time.monotonic())

    def allows(self, pause: float | None) -> bool:
        """Return whether there is time for another attempt after a pause."""
        return pause is not None and pause < self.left


def _is_repeatable(error: RankerError) -> bool:
    return isinstance(error, NoAnswer) or (isinstance(error, Refused) and error.status in _REPEATABLE)


def pause_asked_for(retry_after: str | None, date: str | None) -> float | None:
    """Return the seconds that an answer's Retry-After asks for: seconds, or a moment by the clock of its Date."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    until = _moment(retry_after)
    now = _moment(date) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until else None


def _moment(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
