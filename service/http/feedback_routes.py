"""The route by which activity comes in."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from service.connection.exchange import EXCHANGE, Exchange
from service.errors import Overloaded, StoreDown
from service.experiments.feedback import Taken
from service.http import answers, codec, requests
from service.http.body import json_answer, json_body, pieces
from service.http.operation import documented
from service.runtime import Runtime
from service.store.streams import Receipt


def feedback_routes(runtime: Runtime) -> APIRouter:
    """Return the route by which activity comes in."""
    router = APIRouter(tags=["behaviours"])
    limits, longest_ms = runtime.settings.limits, runtime.settings.streams.ack_timeout_ms
    turns = runtime.admission.turns

    @router.post(
        "/feedback",
        status_code=202,
        **documented("send_feedback", requests.FeedbackRequest, answers.FeedbackResponse, StoreDown, success=202),
    )
    async def feedback(request: Request) -> Response:
        """Take activity for the analysis of experiments: play_start, play_end, like, ...; 200 with ack=stored."""
        exchange: Exchange = request.scope[EXCHANGE]
        log = runtime.needed().feedback
        receipt = Receipt() if codec.wants_receipt(request.query_params.multi_items()) else None
        deadline = exchange.deadline(longest_ms, longest_ms) if receipt is not None else 0.0
        body = await json_body(request, limits.max_body_bytes)
        await turns.take()
        with turns.charged():
            events = codec.parse_feedback(body, limits)
        now_ms = runtime.now_ms()
        results: list[Taken] = []
        for piece in pieces(events):
            await turns.take()
            with turns.charged():
                results += log.take(piece, now_ms, now_ms + limits.max_future_ms, receipt)
        answer = codec.feedback_answer(results, has_types=any("type" in event for event in events))
        if answer.dropped and not answer.accepted:
            raise Overloaded("No activity can be taken now; sending it again is safe.")
        if receipt is None:
            return json_answer(answer, 202)
        if answer.accepted and not await receipt.stored(deadline - asyncio.get_running_loop().time()):
            raise StoreDown("Not all of the activity is known to be stored; sending it again is safe.")
        return json_answer(answer.model_copy(update={"stored": answer.accepted}))

    return router
