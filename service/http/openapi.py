"""The routes' OpenAPI descriptions; none of this code runs when a route answers, because the hot path uses bytes."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.http import answers, requests
from service.http.shared import Prepared

JSON: Final = "application/json"
_REFERENCES: Final = "#/components/schemas/{model}"
_REQUESTS: Final = (requests.RankRequest, requests.BehavioursRequest, requests.ItemsRequest, requests.FeedbackRequest)

_REQUEST_HEADERS: Final = {
    "X-Request-Id": "Repeated in the answer and in the log; made where it is absent or unfit.",
    "traceparent": "W3C trace context; repeated in the answer and in the log.",
}
_WITH_DEADLINE: Final = ("/rank", "/feedback")
_DEADLINE_HEADER: Final = {"X-Deadline-Ms": "How long (ms) the answer is worth waiting for."}
_ACK: Final = {
    "name": "ack",
    "in": "query",
    "required": False,
    "description": "`stored`: answer 200 when Redis has the events, 503 if it has not got them in time.",
    "schema": {"type": "string", "enum": ["accepted", "stored"], "default": "accepted"},
}
_ANSWER_HEADERS: Final = {
    "X-Request-Id": "The request's id.",
    "X-AB-Bucket": "RFC 9651 dictionary: what every layer of the experiments decided, and why.",
    "X-AB-Config": "Digest of the experiment file in force.",
}
_RANK_HEADERS: Final = {
    "X-Model": "The bundle that answered, as model@version.",
    "Server-Timing": "W3C: the stages of the ranking, in milliseconds.",
}

_PHRASES: Final = {
    200: "Successful Response",
    202: "Successful Response",
    400: "Bad Request",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
"""Descriptions of statuses, in the words of RFC 9110: those of Python's own library differ between its versions."""


def documented(
    request: type[BaseModel] | None, response: type[BaseModel], *statuses: int, success: int = 200
) -> dict[str, Any]:  # Any: keywords of FastAPI's route decorators
    """Return what a route tells OpenAPI of its bodies and statuses."""
    extra: dict[str, Any] = {}
    if request is not None:
        reference = {"$ref": _REFERENCES.format(model=request.__name__)}
        extra["requestBody"] = {"required": True, "content": {JSON: {"schema": reference}}}
    return {
        "response_class": Response,
        "responses": {
            success: {"model": response, "description": _PHRASES[success]},
            **{status: {"model": answers.ErrorResponse, "description": _PHRASES[status]} for status in statuses},
        },
        "openapi_extra": extra,
    }


def describe(app: FastAPI) -> None:
    """Make the application's OpenAPI document complete: request bodies, and the headers of every answer."""

    def openapi() -> dict[str, Any]:  # Any: JSON
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def add_docs(app: FastAPI) -> None:
    """Serve the document at /openapi.json and its page at /docs, as bytes that are made once."""
    made = Prepared(lambda: orjson.dumps(app.openapi()))
    page = bytes(get_swagger_ui_html(openapi_url="/openapi.json", title=f"{app.title} - Swagger UI").body)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(await made.get(), media_type=JSON)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return Response(page, media_type="text/html")


def document(app: FastAPI) -> dict[str, Any]:  # Any: JSON
    """Return the OpenAPI document."""
    found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    _, definitions = models_json_schema([(model, "validation") for model in _REQUESTS], ref_template=_REFERENCES)
    schemas_ = found["components"]["schemas"]
    schemas_.update(definitions["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which this service never answers with
        schemas_.pop(name, None)
    for path, operations in found["paths"].items():
        for operation in operations.values():
            _add_headers(operation, path)
    _describe_ack(found["paths"]["/feedback"]["post"])
    found["components"]["schemas"] = dict(sorted(schemas_.items()))
    return found


def _describe_ack(operation: dict[str, Any]) -> None:  # Any: JSON
    operation["parameters"].append(_ACK)
    stored = operation["responses"]["202"] | {"description": "All that was accepted is stored (ack=stored)."}
    operation["responses"] = {"200": stored, **operation["responses"]}


def _add_headers(operation: dict[str, Any], path: str) -> None:  # Any: JSON
    ranks = path == "/rank"
    taken = _REQUEST_HEADERS | (_DEADLINE_HEADER if path in _WITH_DEADLINE else {})
    operation["parameters"] = operation.get("parameters", []) + [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in taken.items()
    ]
    for status, response in operation["responses"].items():
        given = _ANSWER_HEADERS | (_RANK_HEADERS if ranks and status == "200" else {})
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in given.items()
        }
