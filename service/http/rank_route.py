"""`POST /rank`, the long way: it judges and explains what the short way does not take (rank_lane.py)."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from service.connection.exchange import EXCHANGE, Exchange
from service.errors import (
    DeadlineExceeded,
    InferenceFailed,
    InvalidRequest,
)
from service.experiments.overrides import OVERRIDE_HEADER
from service.http import answers, rank_answer, requests
from service.http.body import JSON, json_body
from service.http.operation import documented
from service.http.rank_call import call_of, decision_of
from service.http.rank_decoder import read_rank
from service.ranking.call import AwaitedCall
from service.runtime import Backend, Runtime

_OVERRIDE: Final = OVERRIDE_HEADER.encode()


def rank_routes(runtime: Runtime) -> APIRouter:
    """Return the hot route."""
    router = APIRouter(tags=["ranking"])
    limits, slow = runtime.settings.limits, runtime.slow

    async def read(request: Request, exchange: Exchange, backend: Backend, now_ms: int) -> AwaitedCall:
        """Parse the body and decide the arm; the decision is noted before anything else can fail."""
        body = await json_body(request, limits.max_body_bytes)
        try:
            wanted = read_rank(body, limits)
        except InvalidRequest as error:
            if error.field == "user_id":
                exchange.decision = backend.experiments.decide(None, {}, now_ms)
            raise
        exchange.decision = decision_of(backend, wanted, exchange.header(_OVERRIDE), now_ms)
        deadline = exchange.deadline(limits.deadline_ms, limits.max_deadline_ms)
        return call_of(AwaitedCall, exchange.request_id, wanted, exchange.decision, now_ms=now_ms, deadline=deadline)

    @router.post(
        "/rank", **documented("rank", requests.RankRequest, answers.RankResponse, InferenceFailed, DeadlineExceeded)
    )
    async def rank(request: Request) -> Response:
        """Put candidates in order for a user, best first."""
        exchange: Exchange = request.scope[EXCHANGE]
        backend = runtime.needed()
        call = await read(request, exchange, backend, runtime.now_ms())
        exchange.count_candidates(len(call.item_ids))
        exchange.stages = call.timings  # which fills while it is ranked
        try:
            ranking = await backend.ranker.rank(call)
        finally:
            if slow is not None:
                slow.keep(call, exchange)
        exchange.runs = call.runs
        exchange.headers += rank_answer.rank_headers(ranking)
        exchange.notes |= {"model": f"{ranking.model}@{ranking.version}", "candidates": len(call.item_ids)}
        if ranking.degraded:
            exchange.notes["degraded"] = ranking.degraded
        return Response(rank_answer.rank_body(exchange.request_id, ranking, call.decision.parameters), media_type=JSON)

    return router
