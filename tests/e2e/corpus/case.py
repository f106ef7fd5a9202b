"""A case of the corpus: the bytes of one connection. Written as JSON, so that any language can replay it."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

Piece = str | tuple[str, int]
"""Bytes as text, one character a byte (Latin-1); with a number: that many times. `AWAIT` waits for a 1xx answer."""

AWAIT: Final = ("await", 0)
HOST: Final = "host: ranker\r\n"
JSON: Final = "content-type: application/json\r\n"
GOOD: Final = '{"user_id":"u1","candidates":["i3","i1","i2"]}'


@dataclass(frozen=True)
class Case:
    """One connection: what is sent over it, and how many answers to wait for before it is tried with one more request.

    Args:
        name: unique in its file.
        send: the bytes.
        requests: how many it has.
        bodyless: places of answers without a body (to HEAD).
        ends: the sending side is shut down after the bytes, and no further request is tried.
        hides_body: only status and headers are compared, without the length.
    """

    name: str
    send: tuple[Piece, ...]
    requests: int = 1
    bodyless: tuple[int, ...] = ()
    ends: bool = False
    hides_body: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return what the file has of it, without defaults."""
        options = {name: getattr(self, name) for name, usual in _OPTIONS.items() if getattr(self, name) != usual}
        return {"name": self.name, "send": list(self.send)} | options

    @classmethod
    def of(cls, line: dict[str, Any]) -> Case:
        """Return the case of a line of a file."""
        send = tuple(piece if isinstance(piece, str) else (piece[0], piece[1]) for piece in line["send"])
        options = _OPTIONS | {name: line[name] for name in _OPTIONS if name in line}
        return cls(line["name"], send, **options | {"bodyless": tuple(options["bodyless"])})


_OPTIONS: Final[dict[str, Any]] = {"requests": 1, "bodyless": (), "ends": False, "hides_body": False}


def raw(text: str) -> str:
    """Return UTF-8 text as the bytes it is sent as, one character a byte."""
    return text.encode().decode("latin-1")


def size(pieces: Iterable[Piece]) -> int:
    return sum(len(piece) if isinstance(piece, str) else len(piece[0]) * piece[1] for piece in pieces)


def post(*body: Piece, path: str = "/rank", headers: str = JSON, method: str = "POST") -> tuple[Piece, ...]:
    """Return a whole request with a declared length."""
    head = f"{method} {path} HTTP/1.1\r\n{HOST}{headers}content-length: {size(body)}\r\n\r\n"
    return (head + body[0], *body[1:]) if body and isinstance(body[0], str) else (head, *body)


def get(path: str, *, headers: str = "", method: str = "GET") -> tuple[Piece, ...]:
    """Return a whole request without a body."""
    return (f"{method} {path} HTTP/1.1\r\n{HOST}{headers}\r\n",)


def chunked(*chunks: Piece, path: str = "/rank", headers: str = JSON, end: str = "0\r\n\r\n") -> tuple[Piece, ...]:
    """Return a request whose body comes in chunks."""
    head = f"POST {path} HTTP/1.1\r\n{HOST}{headers}transfer-encoding: chunked\r\n\r\n"
    pieces: list[Piece] = [head]
    for chunk in chunks:
        pieces += [f"{size([chunk]):x}\r\n", chunk, "\r\n"]
    return (*pieces, end)


def gzipped(text: str) -> str:
    """Return UTF-8 text as a gzip stream with the same bytes on every machine: one block that is not compressed."""
    content = text.encode()
    block = b"\1" + struct.pack("<HH", len(content), len(content) ^ 0xFFFF) + content
    end = struct.pack("<II", zlib.crc32(content), len(content))
    return (b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block + end).decode("latin-1")


def body(**fields: str) -> str:
    """Return a ranking's body whose fields are given as JSON text; what is not given is good."""
    known = {"user_id": '"u1"', "candidates": '["i3","i1","i2"]'}
    parts = [f"{json.dumps(name)}:{text}" for name, text in (known | fields).items()]
    return raw("{" + ",".join(parts) + "}")
