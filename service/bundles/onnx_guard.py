"""The allowed content of an ONNX file, checked on its bytes before ONNX Runtime reads them.

ONNX Runtime follows external data to files next to the model, including hard links, and a graph can use operators of a
custom domain. Bundles need neither, so neither is allowed. Weights that are not finite are refused too: one
NaN row in an item table passes every golden score and then fails each request that has the item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from service.bundles.protobuf import NotProtobuf, fields_of
from service.bundles.weights import NotFinite, check_floats, check_tensor

DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml"})

_MAX_FIELDS: Final = 2_000_000  # our exported models have about ten thousand
_MAX_DEPTH: Final = 32

# Message -> field number -> message below it (onnx.proto). Other fields contain neither tensors nor nodes.
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
_FLOATS: Final = frozenset({2, 7})  # of an attribute: one float, a list of them
_EXTERNAL: Final = frozenset({("Tensor", 13), ("Tensor", 14)})  # external_data; data_location (0 = in this file)


class UnsafeGraph(ValueError):  # noqa: N818 - the name describes the file
    """The file is not an ONNX model, uses data or operators outside itself, or has weights that are not finite."""


def refuse_unsafe(content: bytes) -> None:
    """Check that a serialised model is self-contained, uses standard operators only, and has finite weights.

    Functions that the model itself defines may have other domains: their bodies are checked like the rest.

    Raises:
        UnsafeGraph: not protobuf, external data, an operator of another domain, or a weight that is not finite.
    """
    try:
        _check(content)
    except NotProtobuf as error:
        raise UnsafeGraph(f"not an ONNX model: {error}") from error
    except NotFinite as error:
        raise UnsafeGraph(str(error)) from error


def _check(content: bytes) -> None:
    used: set[str] = set()
    defined: set[str] = set()
    found_graph = False
    for message, number, value in _fields(memoryview(content)):
        if (message, number) in _EXTERNAL and value not in (b"", 0):
            raise UnsafeGraph("external data is not allowed: all weights must be inside the file")
        if isinstance(value, memoryview) and _CHILDREN[message].get(number) == "Tensor":
            check_tensor(value)
        if (message, number) in (_NODE_DOMAIN, _FUNCTION_DOMAIN):
            (used if message == "Node" else defined).add(_text(value))
        found_graph = found_graph or (message, number) == ("Model", 7)
    if not found_graph:
        raise UnsafeGraph("not an ONNX model: it has no graph")
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
        floats: list[memoryview] = []
        for number, value in fields_of(body):
            seen += 1
            if seen > _MAX_FIELDS or depth > _MAX_DEPTH:
                raise UnsafeGraph("the graph is too large or too deep to be checked")
            yield message, number, value
            if number in children:
                if isinstance(value, int):
                    raise NotProtobuf("malformed message")
                waiting.append((children[number], value, depth + 1))
            elif message == "Attribute" and number in _FLOATS and isinstance(value, memoryview):
                floats.append(value)
        check_floats(b"".join(floats))
