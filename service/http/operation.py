"""The description of a route for OpenAPI: its id, bodies, and errors."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response
from pydantic import BaseModel

from service import errors
from service.errors import RankerError
from service.http import answers
from service.http.examples import JSON, error_example

REFERENCES: Final = "#/components/schemas/{model}"

ALWAYS: Final = (
    errors.Malformed, errors.ReceiveTimeout, errors.HeadersTooLarge, errors.InternalError, errors.NotImplementedHere,
    errors.NotReady,
)  # fmt: skip
"""Errors of every route: of the connection, and of a service that is loading or stopping."""
WITH_KEY: Final = (errors.Unauthorized, errors.Forbidden, errors.OverQuota)
"""Further errors of every route but the probes, if the service has an access file."""
WITH_BODY: Final = (errors.TooLarge, errors.UnsupportedMedia, errors.InvalidRequest, errors.Overloaded)
"""Further errors of every route that takes a body."""

PROBES: Final = frozenset({"get_liveness", "get_readiness"})
"""Operations that never need a key."""

_PHRASES: Final = {
    200: "Successful Response",
    202: "Successful Response",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
"""Descriptions of statuses, in the words of RFC 9110: those of Python's own library differ between its versions."""


def _errors(kinds: list[type[RankerError]]) -> dict[int | str, dict[str, Any]]:  # Any: JSON
    """Return the answers of each status: its codes, what they mean, and an example of each."""
    found: dict[int | str, dict[str, Any]] = {}
    for kind in sorted(set(kinds), key=lambda kind: (kind.status, kind.code)):
        known = found.setdefault(
            kind.status,
            {
                "model": answers.ErrorResponse,
                "description": f"{_PHRASES[kind.status]}.",
                "content": {JSON: {"examples": {}}},
            },
        )
        known["description"] += f" `{kind.code}`: {kind.default_message}"
        known["content"][JSON]["examples"][kind.code] = error_example(kind)
    return found


METRICS: Final[dict[int | str, dict[str, Any]]] = {  # Any: JSON
    200: {
        "description": _PHRASES[200],
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": "# HELP ranker_ready 1 while the service takes rankings.\nranker_ready 1.0\n",
            }
        },
    },
    **_errors([*ALWAYS, *WITH_KEY]),
}
"""The answers of the route for Prometheus, which answers text."""


def documented(
    operation: str,
    request: type[BaseModel] | None,
    response: type[BaseModel],
    *further: type[RankerError],
    success: int = 200,
) -> dict[str, Any]:  # Any: keywords of FastAPI's route decorators
    """Return what a route tells OpenAPI of itself.

    Args:
        operation: its id, from which generators name a client's method.
        request: the body; None if it takes none.
        response: the answer of status `success`.
        further: its errors, beside those that every route or every route with a body has.
        success: the status of the usual answer.
    """
    probes = operation in PROBES
    kinds = [*ALWAYS, *(() if probes else WITH_KEY), *(WITH_BODY if request is not None else ()), *further]
    body = {} if request is None else {"schema": {"$ref": REFERENCES.format(model=request.__name__)}}
    return {
        "operation_id": operation,
        "summary": operation.replace("_", " ").capitalize(),
        "response_class": Response,
        "responses": {success: {"model": response, "description": _PHRASES[success]}, **_errors(kinds)},
        "openapi_extra": {"requestBody": {"required": True, "content": {JSON: body}}} if body else {},
    }
