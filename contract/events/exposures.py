"""Events that the service writes and the analysis reads: exposures, and what all events share.

activity.py has activity, ranking_log.py rankings, docs/contract.md the fields of all.

An exposure is written for every ranking attempt of an assigned unit, for every outcome: events written
only for successful requests are biased when one arm fails more often.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

EXPOSURE_STREAM: Final = "ab:exposure:v1"
ACTIVITY_STREAM: Final = "fb:activity:v1"
RANKING_STREAM: Final = "rank:log:v1"
EVENT_FIELD: Final = b"event"  # the one field of an entry; its value is the event as JSON
EXPOSURE_SCHEMA: Final = 1

_PSEUDONYM_DIGITS: Final = 32  # 128 bits: no two units of one experiment share a pseudonym by chance
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [high + low for high in _CROCKFORD for low in _CROCKFORD]  # ten bits at a time


class Exposure(BaseModel):
    """One unit in one experiment, at one ranking attempt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = EXPOSURE_SCHEMA
    id: str
    ts: int  # server time, ms since epoch
    req: str  # request id
    unit_type: str
    unit: str
    layer: str
    exp: str
    arm: str  # the assigned arm, also when another model answered
    reason: str
    slot: int | None
    armb: int | None
    cfg: str  # config digest
    exp_salt: str
    forced: Literal[0, 1]  # an override: served, never analysed
    model: str
    ver: str
    served_model: str | None
    served_ver: str | None
    outcome: Literal["ok", "degraded", "error", "gone"]  # gone: the caller hung up before the answer
    k: int  # length of the answered list
    n_cand: int


def pseudonym(unit: str, key: bytes | None) -> str:
    """Return a unit as events name it: as it is, or with a key as `h:` and an HMAC-SHA256 under it."""
    if key is None:
        return unit
    return "h:" + hmac.new(key, unit.encode(), sha256).hexdigest()[:_PSEUDONYM_DIGITS]


def ulid(time_ms: int, tail: int | None = None) -> str:
    """Return a ULID: 48 bits of time and 80 of `tail` (default random), 26 digits of Crockford's base 32."""
    number = (time_ms & (2**48 - 1)) << 80 | (secrets.randbits(80) if tail is None else tail)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
