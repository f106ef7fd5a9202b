"""Prepared data up to a time: all that a training of that time could have known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from training.data.datasets.interactions import DataError
from training.data.prepare import Prepared


def prepared_until(prepared: Prepared, until_ms: int | None) -> Prepared:
    """Return the data without interactions and impressions at or after a time; None keeps all.

    The vocabularies stay: an item or a user without an interaction so far is only unknown to the weights.

    Raises:
        DataError: nothing is left, or the data have no times.
    """
    if until_ms is None:
        return prepared
    if not prepared.has_times:
        raise DataError(f"{prepared.directory.name} has no times: it cannot be cut by one")
    kept = prepared.columns["times_ms"] < until_ms
    if not kept.any():
        raise DataError(f"{prepared.directory.name} has no interactions before {shown_time(until_ms)}")
    before = np.concatenate(([0], np.cumsum(kept)))
    shown = prepared.impressions
    if shown is not None:
        early = shown["times_ms"] < until_ms
        shown = {name: column[early] for name, column in shown.items()}
    provenance = {name: value for name, value in prepared.provenance.items() if name != "repeat_share"}  # of all rows
    return replace(
        prepared,
        columns={name: column[kept] for name, column in prepared.columns.items()},
        user_starts=before[prepared.user_starts],
        provenance=provenance | {"digest": f"{prepared.digest}-until-{until_ms}"},
        impressions=shown,
    )


def time_of(text: str) -> int:
    """Read a date or time of ISO 8601 as milliseconds since the epoch; without a zone it is UTC.

    Raises:
        DataError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DataError(f"{text!r} is not a date or time such as 2026-11-26 or 2026-11-26T06:00:00Z") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def shown_time(time_ms: int) -> str:
    """Return a time for people, in UTC."""
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
