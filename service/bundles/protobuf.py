"""Reads the protobuf wire format, of which an ONNX file uses four wire types: the serving image has no `onnx`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED32: 4, _FIXED64: 8}


class NotProtobuf(ValueError):  # noqa: N818 - the name describes the bytes
    """The bytes are not a protobuf message."""


def fields_of(body: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield (field number, value) of one message: bytes as a view, a varint as an integer, fixed widths as a view.

    Raises:
        NotProtobuf: malformed.
    """
    place, end = 0, len(body)
    while place < end:
        tag, place = _varint(body, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(body, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(body, place)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise NotProtobuf("unknown wire type")
        if length > end - place:
            raise NotProtobuf("cut short")
        yield number, body[place : place + length]
        place += length


def _varint(body: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(body) and shift < 70:
        octet = body[place]
        place += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, place
        shift += 7
    raise NotProtobuf("malformed number")
