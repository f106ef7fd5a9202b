"""The route of the slowest rankings, for operators."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Response

from service.http.body import JSON
from service.http.shared import Shared
from service.ranking.slow import SlowRankings
from service.ranking.slow_shown import shown
from service.runtime import Runtime


def slow_routes(runtime: Runtime) -> APIRouter:
    """Return the route; none if no rankings are kept."""
    router = APIRouter(include_in_schema=False)
    slow, workers = runtime.slow, runtime.workers
    if slow is None:
        return router
    own = Shared(lambda: slow_json(slow))

    @router.get("/debug/slow")
    async def slowest() -> Response:
        ask = workers.ask_slow
        lists = [orjson.loads(await own.get())] if ask is None else await workers.slowest(ask)
        rankings = sorted((one for each in lists for one in each), key=lambda one: -one["total_ms"])
        content = orjson.dumps({"rankings": rankings[: runtime.settings.slow.keep]})
        return Response(content, media_type=JSON, headers={"cache-control": "no-store"})

    return router


def slow_json(slow: SlowRankings) -> bytes:
    """Return the slowest rankings of this process as a JSON array."""
    return orjson.dumps([shown(one) for one in slow.slowest()])
