"""The application: all routes behind the middleware, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from service import __version__
from service.connection.exchange import EXCHANGE
from service.errors import (
    InternalError,
    MethodNotAllowed,
    NotFound,
    RankerError,
)
from service.http.batch_route import batch_routes
from service.http.behaviour_routes import behaviour_routes
from service.http.feedback_routes import feedback_routes
from service.http.front import FrontMiddleware
from service.http.item_routes import item_routes
from service.http.openapi import add_docs, describe
from service.http.operations_routes import operations_routes, probe_routes
from service.http.rank_route import rank_routes
from service.http.slow_routes import slow_routes
from service.metrics import Metrics
from service.runtime import Runtime
from service.settings.http import HttpSettings
from service.settings.root import Settings

Part = Literal["all", "callers", "operators"]

_OF_CALLERS: Final = (rank_routes, batch_routes, behaviour_routes, item_routes, feedback_routes)
_ROUTES: Final[dict[Part, tuple[Callable[[Runtime], APIRouter], ...]]] = {
    "all": (*_OF_CALLERS, operations_routes, slow_routes, probe_routes),
    "callers": (*_OF_CALLERS, probe_routes),
    "operators": (operations_routes, slow_routes, probe_routes),
}


def make_api(runtime: Runtime, part: Part = "all", **options: Any) -> FastAPI:  # Any: FastAPI's own, as its lifespan
    """Return the application around a runtime; its backend may come later.

    Args:
        runtime: the service's state.
        part: the routes of one port, if callers and operators have separate ones.
        options: for FastAPI.
    """
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
    for routes in _ROUTES[part]:
        app.include_router(routes(runtime))
    app.add_exception_handler(HTTPException, _http_error)
    needs_keys = part != "operators" or runtime.settings.access.on_admin_port
    keys = runtime.keys if needs_keys else None
    app.add_middleware(FrontMiddleware, front=runtime, metrics=runtime.metrics, settings=runtime.settings, keys=keys)
    describe(app)
    if runtime.settings.http.docs_enabled and part != "callers":
        add_docs(app, app.openapi if part == "all" else lambda: make_api(runtime).openapi())
    return app


def openapi_json() -> str:
    """Return the OpenAPI document of all routes, the content of docs/openapi.json."""
    settings = Settings.model_construct(http=HttpSettings(behaviours_enabled=True))
    document = make_api(Runtime(settings, Metrics(), __version__)).openapi()
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


async def _http_error(request: Request, error: Exception) -> Response:
    """Turn the router's errors into ours, so that they are rendered like all others."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    known: dict[int, type[RankerError]] = {404: NotFound, 405: MethodNotAllowed}
    if isinstance(error, HTTPException) and error.headers and "Allow" in error.headers:
        methods = [method.strip() for method in error.headers["Allow"].split(",")]
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods and "HEAD" not in methods else [])])
        request.scope[EXCHANGE].headers.append((b"allow", allowed.encode()))
    raise known.get(status, InternalError) from error
