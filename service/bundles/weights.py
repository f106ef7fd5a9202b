"""Checks that a graph's weights are finite, on the bytes of the file, before any of them runs.

NaN is refused everywhere. Infinity is refused too, except in a mask: a tensor whose values are all 0, 1 or infinite,
such as the constant that an attention layer adds to its logits, or a single -inf that fills masked places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.bundles.protobuf import NotProtobuf, fields_of

# onnx.TensorProto: field numbers, and data types by number.
_TYPE, _FLOATS, _INTEGERS, _NAME, _RAW, _DOUBLES = 2, 4, 5, 8, 9, 10
_FLOAT, _FLOAT16, _DOUBLE, _COMPLEX64, _COMPLEX128, _BFLOAT16 = 1, 10, 11, 14, 15, 16
_NEVER_INFINITE: Final = frozenset({0, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 21, 22, 23})  # integers, strings, booleans
_RAW_TYPES: Final = {
    _FLOAT: "<f4", _FLOAT16: "<f2", _DOUBLE: "<f8", _COMPLEX64: "<f4", _COMPLEX128: "<f8", _BFLOAT16: "<u2",
}  # fmt: skip
_CHUNK: Final = 1_048_576  # values checked together

Values = NDArray[np.floating] | NDArray[np.int64]


class NotFinite(ValueError):  # noqa: N818 - the name describes the tensor
    """A weight is NaN or infinite, or of a type that cannot be checked; the message names the tensor."""


def check_tensor(body: memoryview) -> None:
    """Check a serialised TensorProto.

    Raises:
        NotFinite: see the class.
        NotProtobuf: malformed.
    """
    kind, name, parts = 0, "", dict[int, list[memoryview | int]]()
    for number, value in fields_of(body):
        if number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME and isinstance(value, memoryview):
            name = bytes(value).decode("utf-8", "replace")
        else:
            parts.setdefault(number, []).append(value)
    if kind in _NEVER_INFINITE:
        return
    label = f"'{name[:64]}'" if name else "a constant"
    if kind not in _RAW_TYPES:
        raise NotFinite(f"{label} has the data type {kind}, which cannot be checked")
    for values in _stored(kind, parts):
        check_values(label, values)


def check_floats(packed: bytes) -> None:
    """Check the float32 numbers of a node's attribute.

    Raises:
        NotFinite: one is NaN, or infinite beside ordinary numbers.
        NotProtobuf: not a whole number of values.
    """
    check_values("an attribute", _array(memoryview(packed), "<f4"))


def check_values(label: str, values: Values) -> None:
    """Check the numbers (N,) of a weight, a chunk at a time; `label` names it in errors.

    Raises:
        NotFinite: one is NaN, or infinite beside ordinary numbers.
    """
    if all(np.isfinite(chunk).all() for chunk in _chunks(values)):
        return
    if any(np.isnan(chunk).any() for chunk in _chunks(values)):
        raise NotFinite(f"{label} has a weight that is not a number")
    if not all(((chunk == 0) | (chunk == 1) | np.isinf(chunk)).all() for chunk in _chunks(values)):
        raise NotFinite(f"{label} has an infinite weight")


def _stored(kind: int, parts: dict[int, list[memoryview | int]]) -> Iterator[Values]:
    """Yield a tensor's values, from the field that has them."""
    for raw in parts.get(_RAW, []):
        if isinstance(raw, memoryview):
            yield _array(raw, _RAW_TYPES[kind])
    for number, dtype in ((_FLOATS, "<f4"), (_DOUBLES, "<f8")):
        views = [part for part in parts.get(number, []) if isinstance(part, memoryview)]
        if views:  # packed into one, or one for each number
            yield _array(views[0] if len(views) == 1 else memoryview(b"".join(views)), dtype)
    bits = [_integers(part) for part in parts.get(_INTEGERS, [])]
    if bits:  # 16-bit floats, each as an integer
        yield np.concatenate(bits).view(_RAW_TYPES[kind] if kind in (_FLOAT16, _BFLOAT16) else "<u2")


def _array(view: memoryview, dtype: str) -> Values:
    if len(view) % np.dtype(dtype).itemsize:
        raise NotProtobuf("a tensor is cut short")
    return np.frombuffer(view, dtype=dtype)


def _integers(part: memoryview | int) -> NDArray[np.uint16]:
    """Return 16-bit numbers from one varint, or from many packed ones."""
    if isinstance(part, int):
        return np.array([part & 0xFFFF], dtype="<u2")
    octets = np.frombuffer(part, dtype=np.uint8)
    ends = np.flatnonzero(octets < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if len(ends) else ends
    if not len(ends) or ends[-1] != len(octets) - 1:
        raise NotProtobuf("malformed number")
    total = np.zeros(len(ends), dtype=np.uint32)
    for place in range(3):  # 16 bits are at most three octets
        at = np.minimum(starts + place, ends)
        total |= np.where(starts + place <= ends, octets[at] & 0x7F, 0).astype(np.uint32) << np.uint32(7 * place)
    return total.astype("<u2")


def _chunks(values: Values) -> Iterator[Values]:
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        # A bfloat16 is the upper half of a float32.
        yield (chunk.astype("<u4") << np.uint32(16)).view("<f4") if chunk.dtype == np.dtype("<u2") else chunk
