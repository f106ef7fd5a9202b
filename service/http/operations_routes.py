"""The routes for people, probes and Prometheus."""

from __future__ import annotations

from typing import Final

import orjson
from fastapi import APIRouter, Request, Response

from contract.bundle.manifest import CONTRACT_VERSION
from service.errors import (
    NotReady,
)
from service.http import answers
from service.http.body import JSON, json_answer
from service.http.operation import METRICS, documented
from service.http.shared import Shared
from service.metrics import CONTENT_TYPE, OPENMETRICS_TYPE
from service.runtime import Runtime

_OPENMETRICS: Final = "application/openmetrics-text"


def operations_routes(runtime: Runtime) -> APIRouter:
    """Return the routes for people and Prometheus."""
    router = APIRouter(tags=["operations"])
    rendered = Shared(runtime.workers.render, runtime.workers.gather)
    with_exemplars = Shared(runtime.workers.render_openmetrics, runtime.workers.gather)

    @router.get("/info", **documented("get_info", None, answers.InfoResponse))
    async def info() -> Response:
        """Say what this service is: bundles, limits, experiments."""
        backend = runtime.backend
        experiments = backend.experiments.describe() if backend is not None else None
        answer = {
            "service": "ranker",
            "version": runtime.version,
            "contract_version": CONTRACT_VERSION,
            "bundles": backend.bundles.describe() if backend is not None else [],
            "experiments": experiments,
            "limits": runtime.settings.limits.model_dump(),
            "workers": await runtime.workers.states(),
        }
        return Response(orjson.dumps(answer), media_type=JSON)

    @router.get("/metrics", operation_id="get_metrics", response_class=Response, responses=METRICS)
    async def metrics(request: Request) -> Response:
        """Metrics for Prometheus; with the trace ids of traced requests for one that asks for OpenMetrics."""
        runtime.metrics.ready(runtime.status == "ready")
        if runtime.traces is not None and _OPENMETRICS in request.headers.get("accept", ""):
            return Response(await with_exemplars.get(), headers={"content-type": OPENMETRICS_TYPE})
        return Response(await rendered.get(), headers={"content-type": CONTENT_TYPE})

    return router


def probe_routes(runtime: Runtime) -> APIRouter:
    """Return the health checks."""
    router = APIRouter(tags=["operations"])

    @router.get("/health/live", **documented("get_liveness", None, answers.HealthResponse))
    async def live() -> Response:
        """Answer as long as the event loop does."""
        return json_answer(answers.HealthResponse(status="alive"))

    @router.get("/health/ready", **documented("get_readiness", None, answers.HealthResponse))
    async def ready() -> Response:
        """Say whether to send rankings here. Redis is not asked: without it, answers are degraded."""
        runtime.metrics.ready(runtime.status == "ready")
        if runtime.status != "ready" and not runtime.is_succeeded:  # a successor has this port, and is ready
            raise NotReady(f"The service is {runtime.status}.")
        return json_answer(answers.HealthResponse(status="ready"))

    return router
