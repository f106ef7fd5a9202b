"""The streams, and what the events of all of them share: the field of an entry, the ULID, the pseudonym."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final

EXPOSURE_STREAM: Final = "ab:exposure:v1"
ACTIVITY_STREAM: Final = "fb:activity:v1"
RANKING_STREAM: Final = "rank:log:v1"
EVENT_FIELD: Final = b"event"  # the one field of an entry; its value is the event as JSON

_PSEUDONYM_DIGITS: Final = 32  # 128 bits: no two units of one experiment share a pseudonym by chance
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [high + low for high in _CROCKFORD for low in _CROCKFORD]  # ten bits at a time


def pseudonym(unit: str, key: bytes | None) -> str:
    """Return a unit as events name it: as it is, or with a key as `h:` and an HMAC-SHA256 under it."""
    if key is None:
        return unit
    return "h:" + hmac.new(key, unit.encode(), sha256).hexdigest()[:_PSEUDONYM_DIGITS]


def ulid(time_ms: int, tail: int | None = None) -> str:
    """Return a ULID: 48 bits of time and 80 of `tail` (default random), 26 digits of Crockford's base 32."""
    number = (time_ms & (2**48 - 1)) << 80 | (secrets.randbits(80) if tail is None else tail)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
