"""`POST /rank/batch`: rankings for callers that do not wait for each one, such as nightly lists, mails, evaluations."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from service.connection.exchange import EXCHANGE, Exchange
from service.http import answers, requests
from service.http.batch import Batch
from service.http.batch_body import read_batch
from service.http.body import JSON, json_body
from service.http.endings import PERSONAL
from service.http.operation import documented
from service.runtime import Runtime


def batch_routes(runtime: Runtime) -> APIRouter:
    """Return the route of many rankings."""
    router = APIRouter(tags=["ranking"])
    limits, turns = runtime.settings.limits, runtime.admission.turns

    @router.post("/rank/batch", **documented("rank_batch", requests.RankBatchRequest, answers.RankBatchResponse))
    async def rank_batch(request: Request) -> Response:
        """Rank for many users; each ranking is answered or refused by itself."""
        exchange: Exchange = request.scope[EXCHANGE]
        exchange.headers.append(PERSONAL)
        backend = runtime.needed()
        body = await json_body(request, limits.max_body_bytes)
        deadline = exchange.deadline(limits.batch_deadline_ms, limits.batch_deadline_ms)
        await turns.take()
        with turns.charged():
            wanted = read_batch(body, limits)
        results = await Batch(runtime, backend, exchange, deadline).run(wanted)
        head = b'{"request_id":"%b","results":[' % exchange.request_id.encode()
        return Response(b"".join([head, b",".join(results), b"]}"]), media_type=JSON)

    return router
