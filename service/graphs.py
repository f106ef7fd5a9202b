"""What an ONNX file may hold, checked on its bytes before ONNX Runtime sees them.

ONNX Runtime follows external data to files beside the model, hard links included, and a graph can ask for operators of
a custom domain. Neither is needed by a bundle, so neither is allowed. The serving image has no `onnx` package; what is
read here is the protobuf wire format, of which a graph uses four wire types and eight messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_FIELDS: Final = 2_000_000  # an exported model of ours has some ten thousand
_MAX_DEPTH: Final = 32

# Message -> field number -> message below it (onnx.proto). What is not named here holds no tensor and no node.
_CHILDREN: Final[Mapping[str, Mapping[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_NODE_DOMAIN: Final = ("Node", 7)
_FUNCTION_DOMAIN: Final = ("Function", 10)
_EXTERNAL: Final = frozenset({("Tensor", 13), ("Tensor", 14)})  # external_data; data_location (0 = in this file)


class UnsafeGraph(ValueError):  # noqa: N818 - reads as what it says of the file
    """The file is no ONNX model, or asks for something outside itself."""


def refuse_unsafe(content: bytes) -> None:
    """Check that a serialised model is self-contained and uses standard operators only.

    Functions that the model itself defines may have a domain of their own: their bodies are checked like the rest.

    Raises:
        UnsafeGraph: not protobuf, external data, or an operator of another domain.
    """
    used: set[str] = set()
    defined: set[str] = set()
    found_graph = False
    for message, number, value in _fields(memoryview(content)):
        if (message, number) in _EXTERNAL and value not in (b"", 0):
            raise UnsafeGraph("external data is not allowed: all weights must be inside the file")
        if (message, number) in (_NODE_DOMAIN, _FUNCTION_DOMAIN):
            (used if message == "Node" else defined).add(_text(value))
        found_graph = found_graph or (message, number) == ("Model", 7)
    if not found_graph:
        raise UnsafeGraph("not an ONNX model: it holds no graph")
    if foreign := used - defined - DOMAINS:
        raise UnsafeGraph(f"operators of domain '{min(foreign)[:64]}' are not allowed")


def _text(value: object) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def _fields(content: memoryview) -> Iterator[tuple[str, int, memoryview | int]]:
    """Yield every field of the model and of the messages below it, as (message, field number, value)."""
    waiting: list[tuple[str, memoryview, int]] = [("Model", content, 0)]
    seen = 0
    while waiting:
        message, body, depth = waiting.pop()
        children = _CHILDREN[message]
        for number, value in _message(body):
            seen += 1
            if seen > _MAX_FIELDS or depth > _MAX_DEPTH:
                raise UnsafeGraph("the graph is too large or too deep to be checked")
            yield message, number, value
            if number in children:
                if isinstance(value, int):
                    raise UnsafeGraph("not an ONNX model: malformed message")
                waiting.append((children[number], value, depth + 1))


def _message(body: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield (field number, value) of one message: bytes as a view, a varint as an integer, fixed widths as a view."""
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
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise UnsafeGraph("not an ONNX model: unknown wire type")
        if length > end - place:
            raise UnsafeGraph("not an ONNX model: cut short")
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
    raise UnsafeGraph("not an ONNX model: malformed number")
