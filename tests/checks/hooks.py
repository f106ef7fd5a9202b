"""The rules of requests that JSON Schema cannot express, for schemathesis, which generates requests from the document.

Runs in the environment `.checks` (`SCHEMATHESIS_HOOKS`), and imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import schemathesis

_UNKNOWN = "x-schemathesis-unknown-property"
_MOST_BYTES = 128


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out cases that the document calls wrong and HTTP right, or right only because it cannot count bytes."""
    if _UNKNOWN in (case.headers or {}):  # HTTP: a header that is not known is ignored
        return False
    if _waits_not(case) and "X-Deadline-Ms" in (case.headers or {}):  # then the header is not read
        return False
    return all(_fits(text) for part in (case.body, case.path_parameters) for text in _texts(part))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Send whole numbers as such: to JSON Schema, 7.0 is an integer; to the service it is not (docs/http-api.md)."""
    case.body = _whole(case.body)


def _waits_not(case: Any) -> bool:
    return case.path == "/feedback" and (case.query or {}).get("ack") != "stored"


def _fits(text: str) -> bool:
    size = len(text.encode("utf-8", "surrogatepass"))
    return size <= _MOST_BYTES or len(text) > _MOST_BYTES


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(name)
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_whole(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
