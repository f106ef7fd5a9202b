"""The page for people (`GET /`): its files, and the requests of its script.

Off unless `page.enabled`: it shows users' histories, and a click on it is stored as a behaviour. Routes below `/page/`
serve only the page and are not a public interface: they are not in the OpenAPI document and may change with the page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from contract.behaviours.grammar import MAX_ID_BYTES, is_id
from service.errors import InvalidRequest, Malformed
from service.http.codec import check_media
from service.http.documents import ID_RULE
from service.http.front import read_body
from service.page.clicks import click
from service.page.comparison import Comparison, PageSources, history_of, known_users
from service.page.report import LINK, PLACE, report_router

MAX_COUNT: Final = 500
MAX_EXTRA: Final = 20
MAX_BODY_BYTES: Final = 8_192
_MAX_MESSAGE: Final = 120

_STATIC: Final = Path(__file__).with_name("static")
_MEDIA: Final = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SECURITY_HEADERS: Final = {
    # Nothing from anywhere else, no inline script or style, no framing, and in scripts no way from text to markup.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
}

Body = TypeVar("Body", bound=BaseModel)


def _id(user_id: str) -> str:
    if not is_id(user_id):
        raise ValueError(ID_RULE)
    return user_id


UserId = Annotated[str, AfterValidator(_id)]
ItemId = UserId  # the same grammar


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class UserQuestion(_Strict):
    """Whose behaviours?"""

    user_id: UserId


class Question(_Strict):
    """Which candidates, for whom?"""

    user_id: UserId
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 1
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)] = 200
    extra: Annotated[list[ItemId], Field(max_length=MAX_EXTRA)] = []


class Click(_Strict):
    """Who clicked which item?"""

    user_id: UserId
    item_id: ItemId


def page_router(sources: Callable[[Request], PageSources], report: Path | None = None) -> APIRouter:
    """Return the routes of the page; to be included only where `page.enabled`.

    Args:
        sources: the running service's own parts, for a request.
        report: the latest report of an experiment, to be linked to.
    """
    router = APIRouter(include_in_schema=False)
    for name, media in _MEDIA.items():
        router.add_api_route(
            "/" if name == "index.html" else f"/page/{name}", _file(name, media, report), methods=["GET"]
        )
    if report is not None:
        router.include_router(report_router(report))

    @router.get("/page/users")
    async def users(request: Request) -> Response:
        prefix = request.query_params.get("prefix", "")[:MAX_ID_BYTES]
        return _answer(await known_users(sources(request), prefix))

    @router.post("/page/history")
    async def history(request: Request) -> Response:
        question = await _question(UserQuestion, request)
        return _answer(await history_of(sources(request), question.user_id))

    @router.post("/page/compare")
    async def compare(request: Request) -> Response:
        question = await _question(Question, request)
        comparison = Comparison(sources(request), question.user_id, question.seed, question.count, question.extra)
        return _answer(await comparison.run())

    @router.post("/page/click")
    async def clicked(request: Request) -> Response:
        seen, parts = await _question(Click, request), sources(request)
        return _answer(await click(parts.store, parts.written, seen.user_id, seen.item_id))

    return router


async def _question(model: type[Body], request: Request) -> Body:
    """Return the validated body.

    Raises:
        UnsupportedMedia: its Content-Type is not JSON. A browser must ask before it sends JSON to another origin, and
            the service refuses, so no other site can use this route.
        TooLarge: it is too long.
        Malformed: it is not JSON.
        InvalidRequest: it contains a value that cannot be used.
    """
    check_media(request.headers.get("content-type"), request.headers.get("content-encoding"))
    body = await read_body(request.receive, MAX_BODY_BYTES)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise Malformed from error
        message = first["msg"].removeprefix("Value error, ")[:_MAX_MESSAGE]
        raise InvalidRequest(message, field=".".join(map(str, first["loc"])) or None) from error


def _answer(document: dict[str, Any]) -> Response:  # Any: JSON
    return Response(orjson.dumps(document), media_type="application/json", headers=SECURITY_HEADERS)


def _file(name: str, media: str, report: Path | None) -> Callable[[], Awaitable[Response]]:
    content = (_STATIC / name).read_bytes().replace(PLACE, LINK if report is not None else b"")

    async def serve() -> Response:
        return Response(content, media_type=media, headers=SECURITY_HEADERS)

    return serve
