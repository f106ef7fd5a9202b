"""The body of many rankings: each is decoded by itself, so that a bad one refuses only itself."""

from __future__ import annotations

from typing import Final

import msgspec
import orjson

from service.errors import InvalidRequest, TooLarge
from service.http import requests
from service.http.documents import bound_list, parse, validated
from service.settings.limits import LimitsSettings


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """A body whose rankings are not decoded yet."""

    rankings: list[msgspec.Raw]
    shown: bool


_decode: Final = msgspec.json.Decoder(BatchBody).decode


def read_batch(body: bytes, limits: LimitsSettings) -> BatchBody:
    """Return the rankings of a body.

    Raises:
        Malformed: not JSON.
        TooLarge: more rankings than are allowed.
        InvalidRequest: a field is missing or cannot be used; it is named.
    """
    try:
        batch = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        batch = _slowly(body, limits)
    if len(batch.rankings) > limits.max_batch_rankings:
        raise TooLarge(f"must have at most {limits.max_batch_rankings} elements", field="rankings")
    if not batch.rankings:
        raise InvalidRequest("must not be empty", field="rankings")
    return batch


def _slowly(body: bytes, limits: LimitsSettings) -> BatchBody:
    """Explain why a body cannot be decoded, or decode what only the other decoder accepts."""
    document = parse(body)
    bound_list(document, "rankings", limits.max_batch_rankings)
    whole = validated(requests.UncheckedRankings, document)
    return BatchBody([msgspec.Raw(orjson.dumps(ranking)) for ranking in whole.rankings], whole.shown)
