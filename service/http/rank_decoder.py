"""The body of a ranking to values, fast: msgspec decodes it and checks types, lengths and ranges in one pass.

The fast decoder gives no reasons. Bodies that it refuses go to the friendly validator (`codec.parse_rank`), which
names the field, or accepts values that the decoder does not support, such as integers beyond 64 bits. The validator
accepts all bodies that the decoder accepts, with the same values: `tests/property/test_rank_decoder.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

from contract.behaviours.actions import ACTION_CODES, DEFAULT_ACTION, Action
from contract.behaviours.grammar import MAX_ID_BYTES, MIN_TIME_MS, are_ids, is_text
from contract.behaviours.records import (
    MAX_PLAY_MS,
    MAX_TIME_MS,
    MAX_VALUE,
    RECORD,
    Records,
    item_keys,
    records_from_columns,
)
from contract.bundle.context import MAX_NAME, MAX_TEXT, MAX_TOLD
from service.http import codec, requests
from service.http.sizes import bound_values, most_of_ranking
from service.names import Seen
from service.ranking.described import Features
from service.settings.limits import LimitsSettings

_Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)]
_TimeMs = Annotated[int, Meta(ge=MIN_TIME_MS, le=MAX_TIME_MS - 1)]
_Text = Annotated[str, Meta(max_length=MAX_ID_BYTES)]
_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
_Value = Annotated[str, Meta(max_length=MAX_TEXT)]
_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # orjson makes floats of larger ones


class Behaviour(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One past action of the user, as requests.Behaviour describes it."""

    item_id: _Id
    ts: _TimeMs
    action: Action = DEFAULT_ACTION
    play_ms: Annotated[int, Meta(ge=0, le=MAX_PLAY_MS)] = 0
    value: Annotated[float, Meta(ge=0, le=MAX_VALUE)] = 0.0


class RankBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A valid body of a ranking, as requests.RankRequest describes it."""

    user_id: _Id
    candidates: Annotated[list[_Id], Meta(min_length=1)]
    limit: Annotated[int, Meta(ge=1, le=requests.MAX_LIMIT)] = requests.MAX_LIMIT
    recent: list[Behaviour] = []
    attributes: Annotated[dict[_Id, _Text | bool | _Int64 | float], Meta(max_length=requests.MAX_ATTRIBUTES)] = {}
    request_time: _TimeMs = requests.NOW
    explain: bool = False
    seen: Seen = "keep"
    context: Annotated[dict[_Name, _Value | _Int64], Meta(max_length=MAX_TOLD)] = {}


class FeaturedBody(RankBody):
    """The same with features of candidates; only the validator reads them."""

    features: Features = {}


_NOTHING: Final[Records] = np.zeros(0, dtype=RECORD)
_decode: Final = msgspec.json.Decoder(RankBody).decode


def read_rank(body: bytes, limits: LimitsSettings) -> RankBody:
    """Return the values of a ranking's body.

    Raises:
        Malformed, TooLarge, InvalidRequest: as codec.parse_rank.
    """
    bound_values(body, most_of_ranking(limits))
    return decode_rank(body, limits) or _slowly(codec.parse_rank(body, limits))


def decode_rank(body: bytes, limits: LimitsSettings) -> RankBody | None:
    """Return the values of a ranking's body, or None: then ask codec.parse_rank."""
    try:
        wanted = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if len(wanted.candidates) > limits.max_candidates or len(wanted.recent) > limits.max_recent:
        return None
    if wanted.context and not codec.is_context(wanted.context):
        return None
    return wanted if _has_good_texts(wanted, body) else None


def records_of(recent: Sequence[Behaviour]) -> Records:
    """Return the records of behaviours, in their order."""
    if not recent:
        return _NOTHING
    return records_from_columns(
        item_keys([behaviour.item_id for behaviour in recent]),
        np.array([behaviour.ts for behaviour in recent], dtype=np.int64),
        np.array([ACTION_CODES[behaviour.action] for behaviour in recent], dtype=np.uint8),
        np.array([behaviour.play_ms for behaviour in recent], dtype=np.int64),
        np.array([behaviour.value for behaviour in recent], dtype=np.float64),
    )


def _has_good_texts(wanted: RankBody, body: bytes) -> bool:
    """Return whether ids and attributes follow the grammar; their lengths in characters have been checked.

    A look at the whole body is enough for nearly all of them. In a body of ASCII without DEL and without escapes, no
    text has a control character or more bytes than characters; without a blank, none has one at an end.
    """
    is_plain = body.isascii() and b"\\" not in body and b"\x7f" not in body
    if is_plain and b" " not in body:
        return True
    ids = [wanted.user_id, *wanted.candidates, *[behaviour.item_id for behaviour in wanted.recent]]
    if is_plain:
        return " " not in "".join(ids) or are_ids(ids)
    attributes = [*wanted.attributes, *[value for value in wanted.attributes.values() if value and type(value) is str]]
    return are_ids(ids) and all(map(is_text, attributes))


def _slowly(request: requests.RankRequest) -> RankBody:
    return FeaturedBody(
        user_id=request.user_id,
        candidates=request.candidates,
        limit=request.limit,
        recent=[Behaviour(**behaviour) for behaviour in request.recent],
        attributes=request.attributes,
        request_time=request.request_time,
        explain=request.explain,
        seen=request.seen,
        context=request.context,
        features=request.features,
    )
