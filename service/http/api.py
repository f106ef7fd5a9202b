"""The routes. Each is a few lines: bytes to values, one call, values to bytes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from contract.behaviours import Records
from contract.grammar import is_id
from contract.manifest import CONTRACT_VERSION
from service import __version__
from service.connection.exchange import EXCHANGE, Exchange
from service.errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    NotReady,
    Overloaded,
    RankerError,
    StoreDown,
)
from service.experiments.feedback import Refused
from service.experiments.overrides import OVERRIDE_HEADER
from service.flow.turns import Turns
from service.http import codec as wire
from service.http import schemas
from service.http.front import FrontMiddleware, read_body
from service.http.openapi import add_docs, describe, documented
from service.http.rank_decoder import read_rank, records_of
from service.http.shared import Shared
from service.metrics import CONTENT_TYPE, Metrics
from service.ranking.call import AwaitedCall
from service.runtime import Backend, Runtime, StoresBehaviours
from service.settings import HttpSettings, Settings
from service.store.behaviours import AppendResult, StoreUnavailable
from service.store.streams import Receipt

JSON: Final = "application/json"
T = TypeVar("T")

_PIECE: Final = 64  # users, or pieces of feedback, that are worked on in one turn
_OVERRIDE: Final = OVERRIDE_HEADER.encode()


def make_api(runtime: Runtime, **options: Any) -> FastAPI:  # Any: FastAPI's own, as its lifespan
    """Return the application around a runtime; its backend may come later."""
    app = FastAPI(
        title="Ranker",
        version=runtime.version,
        summary="An online ranking microservice for feeds.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        **options,
    )
    app.include_router(rank_routes(runtime))
    app.include_router(behaviour_routes(runtime))
    app.include_router(feedback_routes(runtime))
    app.include_router(people_routes(runtime))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(FrontMiddleware, front=runtime, metrics=runtime.metrics, settings=runtime.settings)
    describe(app)
    if runtime.settings.http.docs_enabled:
        add_docs(app)
    return app


def openapi_json() -> str:
    """Return the OpenAPI document of all routes, as docs/openapi.json holds it."""
    settings = Settings.model_construct(http=HttpSettings(behaviours_enabled=True))
    document = make_api(Runtime(settings, Metrics(), __version__)).openapi()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def rank_routes(runtime: Runtime) -> APIRouter:
    """Return the hot route."""
    router = APIRouter(tags=["ranking"])
    limits = runtime.settings.limits

    async def call_of(request: Request, exchange: Exchange, backend: Backend, now_ms: int) -> AwaitedCall:
        """Parse the body and decide the arm; the decision is noted before anything else can fail."""
        body = await _json_body(request, limits.max_body_bytes)
        try:
            wanted = read_rank(body, limits)
        except InvalidRequest as error:
            if error.field == "user_id":
                exchange.decision = backend.experiments.decide(None, {}, now_ms)
            raise
        snapshot = backend.experiments.snapshot
        forced = None
        if snapshot is not None:
            forced = backend.overrides.forced(exchange.header(_OVERRIDE), wanted.user_id, snapshot, now_ms)
        decision = backend.experiments.decide(wanted.user_id, wanted.attributes, now_ms, forced)
        exchange.decision = decision
        return AwaitedCall(
            exchange.request_id,
            wanted.user_id,
            wanted.candidates,
            decision,
            limit=wanted.limit,
            recent=records_of(wanted.recent),
            request_time_ms=now_ms if wanted.request_time == schemas.NOW else wanted.request_time,
            explain=wanted.explain,
            deadline=exchange.deadline(limits.deadline_ms, limits.max_deadline_ms),
        )

    @router.post(
        "/rank", **documented(schemas.RankRequest, schemas.RankResponse, 400, 413, 415, 422, 429, 500, 503, 504)
    )
    async def rank(request: Request) -> Response:
        """Put candidates in order for a user, best first."""
        exchange: Exchange = request.scope[EXCHANGE]
        backend = runtime.needed()
        call = await call_of(request, exchange, backend, runtime.now_ms())
        ranking = await backend.ranker.rank(call)
        model = f"{ranking.model}@{ranking.version}"
        exchange.headers += [
            (b"x-model", model.encode()),
            (b"server-timing", wire.server_timing(ranking.timings)),
        ]
        exchange.notes |= {"model": model, "candidates": len(call.item_ids)}
        if ranking.degraded:
            exchange.notes["degraded"] = ranking.degraded
        return Response(wire.rank_body(exchange.request_id, ranking, call.decision.parameters), media_type=JSON)

    return router


def behaviour_routes(runtime: Runtime) -> APIRouter:
    """Return the routes by which behaviours come in and are shown."""
    router = APIRouter(tags=["behaviours"])
    limits, turns = runtime.settings.limits, runtime.admission.turns

    @router.post(
        "/behaviours", **documented(schemas.BehavioursRequest, schemas.BehavioursResponse, 400, 413, 415, 422, 429, 503)
    )
    async def append(request: Request) -> Response:
        """Store behaviours. Sending them again is safe, and the next ranking sees them."""
        store = runtime.needed().store
        body = await _json_body(request, limits.max_body_bytes)
        await turns.take()
        with turns.charged():
            behaviours = wire.parse_behaviours(body, limits)
        latest_ms = runtime.now_ms() + limits.max_future_ms
        future = [place for place, behaviour in enumerate(behaviours) if behaviour["ts"] > latest_ms]
        answer = await _append(store, behaviours, set(future), turns)
        reasons = Counter(refusal.reason for refusal in answer.refusals)
        runtime.metrics.behaviours_written(stored=answer.stored, repeated=answer.repeated, refused=reasons)
        return _json(answer)

    if runtime.settings.http.behaviours_enabled:

        @router.get("/behaviours/{user_id:path}", **documented(None, schemas.StoredBehavioursResponse, 422))
        async def stored(user_id: str) -> Response:
            """Show what is stored of a user, newest first: for people."""
            if not is_id(user_id):
                raise InvalidRequest(wire.ID_RULE, field="user_id")
            backend = runtime.needed()
            [found] = await backend.store.read((user_id,))
            return Response(
                wire.stored_body(user_id, found, [bundle.items for bundle in backend.bundles.served()]), media_type=JSON
            )

    return router


def feedback_routes(runtime: Runtime) -> APIRouter:
    """Return the route by which activity comes in."""
    router = APIRouter(tags=["behaviours"])
    limits, longest_ms = runtime.settings.limits, runtime.settings.streams.ack_timeout_ms
    turns = runtime.admission.turns

    @router.post(
        "/feedback",
        status_code=202,
        **documented(schemas.FeedbackRequest, schemas.FeedbackResponse, 400, 413, 415, 422, 429, 503, success=202),
    )
    async def feedback(request: Request) -> Response:
        """Take activity for the analysis of experiments: play, finish, like, ...; 200 with ack=stored."""
        exchange: Exchange = request.scope[EXCHANGE]
        log = runtime.needed().feedback
        receipt = Receipt() if wire.wants_receipt(request.query_params.multi_items()) else None
        deadline = exchange.deadline(longest_ms, longest_ms) if receipt is not None else 0.0
        body = await _json_body(request, limits.max_body_bytes)
        await turns.take()
        with turns.charged():
            events = wire.parse_feedback(body, limits)
        now_ms = runtime.now_ms()
        refused: list[Refused] = []
        for piece in _pieces(events):
            await turns.take()
            with turns.charged():
                refused += log.take(piece, now_ms, now_ms + limits.max_future_ms, receipt)
        answer = wire.feedback_answer(refused)
        if answer.dropped and not answer.accepted:
            raise Overloaded("No activity can be taken now; sending it again is safe.")
        if receipt is None:
            return _json(answer, 202)
        if answer.accepted and not await receipt.stored(deadline - asyncio.get_running_loop().time()):
            raise StoreDown("Not all of the activity is known to be stored; sending it again is safe.")
        return _json(answer.model_copy(update={"stored": answer.accepted}))

    return router


def people_routes(runtime: Runtime) -> APIRouter:
    """Return the routes for people and probes."""
    router = APIRouter(tags=["operations"])
    rendered = Shared(runtime.workers.render, runtime.workers.gather)

    @router.get("/info", **documented(None, schemas.InfoResponse))
    async def info() -> Response:
        """Say what this service is: bundles, limits, experiments."""
        backend = runtime.backend
        snapshot = backend.experiments.snapshot if backend is not None else None
        experiments = {"digest": snapshot.digest, "revision": snapshot.config.revision} if snapshot else None
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

    @router.get("/health/live", **documented(None, schemas.HealthResponse))
    async def live() -> Response:
        """Answer as long as the event loop does."""
        return _json(schemas.HealthResponse(status="alive"))

    @router.get("/health/ready", **documented(None, schemas.HealthResponse, 503))
    async def ready() -> Response:
        """Say whether to send rankings here. Redis is not asked: without it, answers are degraded."""
        runtime.metrics.ready(runtime.status == "ready")
        if runtime.status != "ready":
            raise NotReady(f"The service is {runtime.status}.")
        return _json(schemas.HealthResponse(status="ready"))

    @router.get("/metrics", include_in_schema=True, response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        runtime.metrics.ready(runtime.status == "ready")
        return Response(await rendered.get(), headers={"content-type": CONTENT_TYPE})

    return router


async def _append(
    store: StoresBehaviours, behaviours: Sequence[schemas.UserBehaviour], future: set[int], turns: Turns
) -> schemas.BehavioursResponse:
    """Append all that are not too far ahead, and say what became of each."""
    kept = [place for place in range(len(behaviours)) if place not in future]
    await turns.take()
    with turns.charged():
        users = wire.records_by_user([behaviours[place] for place in kept])
    results = await _append_in_pieces(store, {user_id: records for user_id, (_, records) in users.items()}, turns)
    refused = dict.fromkeys(future, "future")
    for user_id, (places, _) in users.items():
        if results[user_id].error is not None:
            refused |= {kept[place]: "wrong_type" for place in places}
    return schemas.BehavioursResponse(
        stored=sum(result.stored for result in results.values()),
        repeated=sum(result.repeated for result in results.values()),
        refused=len(refused),
        refusals=[
            schemas.Refusal.model_validate({"index": place, "reason": refused[place]}) for place in sorted(refused)
        ],
    )


async def _append_in_pieces(
    store: StoresBehaviours, users: Mapping[str, Records], turns: Turns
) -> dict[str, AppendResult]:
    """Append the behaviours of some users at a time: neither the event loop nor Redis is held up by a large request."""
    results: dict[str, AppendResult] = {}
    for names in _pieces(list(users)):
        await turns.take()
        try:
            with turns.charged():
                results |= await store.append({name: users[name] for name in names})
        except StoreUnavailable as error:
            raise StoreDown from error
        if any(results[name].error == "unavailable" for name in names):
            raise StoreDown
    return results


def _pieces(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(whole), _PIECE):
        yield whole[start : start + _PIECE]


async def _json_body(request: Request, limit: int) -> bytes:
    wire.check_media(request.headers.get("content-type"), request.headers.get("content-encoding"))
    return await read_body(request.receive, limit)


def _json(answer: BaseModel, status: int = 200) -> Response:
    return Response(answer.model_dump_json(), status, media_type=JSON)


async def _http_error(request: Request, error: Exception) -> Response:
    """Turn the router's own errors into ours; they are rendered with all others."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    known: dict[int, type[RankerError]] = {404: NotFound, 405: MethodNotAllowed}
    if isinstance(error, HTTPException) and error.headers and "Allow" in error.headers:
        methods = [method.strip() for method in error.headers["Allow"].split(",")]
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods and "HEAD" not in methods else [])])
        request.scope[EXCHANGE].headers.append((b"allow", allowed.encode()))
    raise known.get(status, InternalError) from error
