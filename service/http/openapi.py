"""The OpenAPI document of all routes; none of this code runs when a route answers, because the hot path uses bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.http import openapi_parts, reference, requests
from service.http.examples import JSON, add_examples
from service.http.openapi_parts import add_headers, add_security, opened, requirements, sized
from service.http.operation import REFERENCES
from service.http.shared import Prepared

_REQUESTS: Final = (
    requests.RankRequest, requests.RankBatchRequest, requests.BehavioursRequest, requests.ItemsRequest,
    requests.FeedbackRequest,
)  # fmt: skip

_ACK: Final = {
    "name": "ack",
    "in": "query",
    "required": False,
    "description": "`stored`: answer 200 when Redis has the events, 503 if it has not got them in time.",
    "schema": {"type": "string", "enum": ["accepted", "stored"], "default": "accepted"},
}


def describe(app: FastAPI) -> None:
    """Make the application's OpenAPI document complete: request bodies, and the headers of every answer."""

    def openapi() -> dict[str, Any]:  # Any: JSON
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def add_docs(app: FastAPI, describe: Callable[[], dict[str, Any]]) -> None:  # Any: JSON
    """Serve a document at /openapi.json and its page at /docs, as bytes that are made once."""
    made = Prepared(lambda: orjson.dumps(describe()))
    page = Prepared(lambda: reference.page(describe()))

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(await made.get(), media_type=JSON)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(await page.get(), media_type="text/html; charset=utf-8", headers=reference.HEADERS)


def document(app: FastAPI) -> dict[str, Any]:  # Any: JSON
    """Return the OpenAPI document."""
    found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    found["info"] |= openapi_parts.INFO
    found["servers"] = openapi_parts.SERVERS
    found["tags"] = openapi_parts.TAGS
    _, definitions = models_json_schema([(model, "validation") for model in _REQUESTS], ref_template=REFERENCES)
    schemas_ = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which this service never answers with
        schemas_.pop(name, None)
    found["components"]["schemas"] = schemas_ = {name: opened(schema) for name, schema in schemas_.items()}
    schemas_.update(definitions["$defs"])
    for path, operations in found["paths"].items():
        for operation in operations.values():
            add_headers(operation, path)
            add_security(operation)
            add_examples(operation)
    _describe_ack(found["paths"]["/feedback"]["post"])
    schemas_["ActivityEvent"] |= requirements()
    found["components"]["securitySchemes"] = openapi_parts.SECURITY_SCHEMES
    found["components"]["schemas"] = sized(dict(sorted(schemas_.items())))
    return found


def _describe_ack(operation: dict[str, Any]) -> None:  # Any: JSON
    operation["parameters"].append(_ACK)
    stored = operation["responses"]["202"] | {"description": "All that was accepted is stored (ack=stored)."}
    operation["responses"] = {"200": stored, **operation["responses"]}
