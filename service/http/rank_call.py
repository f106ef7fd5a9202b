"""From the values of a ranking's body to a call of the ranker, for the routes that wait for it."""

from __future__ import annotations

from typing import TypeVar

from contract.experiments.decision import Decision
from service.http import requests
from service.http.rank_decoder import FeaturedBody, RankBody, records_of
from service.ranking.call import AwaitedCall
from service.runtime import Backend

C = TypeVar("C", bound=AwaitedCall)


def decision_of(backend: Backend, wanted: RankBody, override: str | None, now_ms: int) -> Decision:
    """Return the arms of a user; `override` is the X-AB-Override header, if there is one."""
    snapshot = backend.experiments.snapshot
    forced = None
    if snapshot is not None:
        forced = backend.overrides.forced(override, wanted.user_id, snapshot, now_ms)
    return backend.experiments.decide(wanted.user_id, wanted.attributes, now_ms, forced)


def call_of(kind: type[C], request_id: str, wanted: RankBody, decision: Decision, *, now_ms: int, deadline: float) -> C:
    """Return a call with the values of a body."""
    return kind(
        request_id,
        wanted.user_id,
        wanted.candidates,
        decision,
        limit=wanted.limit,
        recent=records_of(wanted.recent),
        request_time_ms=now_ms if wanted.request_time == requests.NOW else wanted.request_time,
        explain=wanted.explain,
        seen=wanted.seen,
        attributes=wanted.attributes,
        context=wanted.context,
        features=wanted.features if isinstance(wanted, FeaturedBody) else None,
        deadline=deadline,
    )
