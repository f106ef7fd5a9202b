"""How many values a JSON body has, without parsing it: refusing a huge body must not cost more than a ranking.

A parser makes an object of each value. A body of 1 MiB has room for 350,000 empty lists, of which 2,000 candidates and
500 behaviours are at most 6,000 values.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from service.errors import TooLarge
from service.settings.limits import LimitsSettings

_LARGE_BYTES: Final = 65_536  # a smaller body is parsed in less time than a ranking takes
_SLACK: Final = 4  # bodies that are not much too large are parsed, so that the error names the field
_FEW: Final = 100  # values beside the lists
_FIELDS: Final = 14  # of a behaviour or an event, and the object itself
_ESCAPED: Final = re.compile(rb"\\u00[67]")  # may be a letter of the key `features`
_QUOTE, _COMMA, _BRACKET, _BRACE = b'",[{'


def most_of_ranking(limits: LimitsSettings) -> int:
    """Return the values that a ranking without features may have."""
    return _SLACK * (limits.max_candidates + 6 * limits.max_recent + _FEW)


def most_of_events(limits: LimitsSettings) -> int:
    """Return the values that behaviours or feedback may have."""
    return _SLACK * (_FIELDS * limits.max_behaviours + _FEW)


def bound_values(body: bytes, most: int) -> None:
    """Refuse a large body with more values than it may have.

    A body with features of items is left to the parser: valid ones may have very many values.

    Raises:
        TooLarge: it has more.
    """
    if len(body) > _LARGE_BYTES and has_more_values(body, most) and not _may_have_features(body):
        raise TooLarge(f"must have at most {most} values", field="body")


def _may_have_features(body: bytes) -> bool:
    return b"features" in body or (b"\\" in body and _ESCAPED.search(body) is not None)


def has_more_values(body: bytes, most: int) -> bool:
    """Return whether there are more commas and opening brackets outside of texts; it stops at the first too many."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"..").replace(b'\\"', b"..")
    content, found, is_inside = np.frombuffer(body, dtype=np.uint8), 0, 0
    for start in range(0, len(content), _LARGE_BYTES):
        piece = content[start : start + _LARGE_BYTES]
        quotes = np.cumsum(piece == _QUOTE, dtype=np.uint8)
        quotes += np.uint8(is_inside)
        begins = (piece == _COMMA) | (piece == _BRACKET) | (piece == _BRACE)
        found += int(np.count_nonzero(begins & (quotes & 1 == 0)))
        if found > most:
            return True
        is_inside = int(quotes[-1]) & 1
    return False
