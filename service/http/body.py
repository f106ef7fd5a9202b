"""Bodies of requests and answers, as every route reads and writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel

from service.connection.exchange import EXCHANGE, Exchange
from service.http import codec
from service.http.front import read_body

JSON: Final = "application/json"
T = TypeVar("T")
_PIECE: Final = 64  # users, or pieces of feedback, that are worked on in one turn


async def json_body(request: Request, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        UnsupportedMedia: it is not JSON.
        TooLarge: longer than the limit.
        ClientGone: the caller hung up.
    """
    exchange: Exchange = request.scope[EXCHANGE]
    body = exchange.body
    coding = None if body is not None else request.headers.get("content-encoding")  # the front has inflated it
    codec.check_media(request.headers.get("content-type"), coding)
    return body if body is not None else await read_body(request.receive, limit)


def json_answer(answer: BaseModel, status: int = 200) -> Response:
    """Return an answer as JSON."""
    return Response(answer.model_dump_json(), status, media_type=JSON)


def pieces(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces that are each worked on in one turn."""
    for start in range(0, len(whole), _PIECE):
        yield whole[start : start + _PIECE]
