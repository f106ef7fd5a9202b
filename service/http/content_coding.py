"""Compressed bodies of requests (RFC 9110 section 8.4): gzip only, and never more than a plain body may have.

A body is inflated in small pieces of input and of output, each in a turn of its own, so that neither a bomb nor a slow
stream delays rankings. It stops at the limit, however much more there is.
"""

from __future__ import annotations

import zlib
from typing import Final

from service.connection.exchange import Headers
from service.errors import Malformed, TooLarge, UnsupportedMedia
from service.flow.turns import Turns

_NAMES: Final = frozenset({b"gzip", b"x-gzip"})  # RFC 9110 section 8.4.1.3: the same
_ACCEPTED: Final = [(b"accept-encoding", b"gzip")]  # RFC 9110 section 12.5.3
_GZIP: Final = 16 + zlib.MAX_WBITS
_INPUT_BYTES: Final = 8_192  # a stream may need a new table for every 70 bytes
_OUTPUT_BYTES: Final = 65_536
_BROKEN: Final = "The body is not one whole gzip stream."


def is_gzip(headers: Headers) -> bool:
    """Return whether a body is compressed.

    Raises:
        UnsupportedMedia: another coding, or several.
    """
    lines = [value for name, value in headers if name == b"content-encoding"]
    if not lines:
        return False
    codings = [coding.strip().lower() for line in lines for coding in line.split(b",")]
    if codings == [b"identity"]:
        return False
    if len(codings) == 1 and codings[0] in _NAMES:
        return True
    raise UnsupportedMedia(field="Content-Encoding", headers=_ACCEPTED)


async def inflated(body: bytes, limit: int, turns: Turns) -> bytes:
    """Return what a gzip stream contains.

    Raises:
        Malformed: it is broken, incomplete, or followed by other bytes.
        TooLarge: it contains more bytes than the limit; no more are made.
    """
    stream = zlib.decompressobj(_GZIP)
    parts: list[bytes] = []
    place, size, rest = 0, 0, b""
    while not stream.eof:
        if not rest:
            rest = body[place : place + _INPUT_BYTES]
            place += len(rest)
        is_all = place == len(body)
        await turns.take()
        with turns.charged():
            part, rest = _piece(stream, rest, min(_OUTPUT_BYTES, limit + 1 - size))
        if is_all and not part and not rest and not stream.eof:
            raise Malformed(_BROKEN)
        size += len(part)
        if size > limit:
            raise TooLarge(f"The body must be at most {limit} bytes when inflated.", field="Content-Encoding")
        parts.append(part)
    if stream.unused_data or place < len(body):
        raise Malformed(_BROKEN)
    return b"".join(parts)


def _piece(stream: zlib._Decompress, data: bytes, most: int) -> tuple[bytes, bytes]:
    """Return the next bytes of a stream, and the input that is left."""
    try:
        return stream.decompress(data, most), stream.unconsumed_tail
    except zlib.error:
        raise Malformed(_BROKEN) from None
