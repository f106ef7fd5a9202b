"""A ranking's answer as bytes: the body, from pieces that are kept, and the headers that only a ranking has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Final

import orjson

from contract.experiments.definition import Parameters
from service.connection.exchange import Headers
from service.ranking.answer import Ranking

_UNKNOWN: Final = b'%bnull,"known":false'
_MAX_FRAGMENTS: Final = 50_000  # about 8 MB with usual ids, 20 MB with the longest
_FRAGMENTS: Final[dict[str, bytes]] = {}
_TIMINGS: Final[dict[tuple[str, ...], bytes]] = {}  # formats of Server-Timing, by their stages


def rank_body(request_id: str, ranking: Ranking, parameters: Parameters) -> bytes:
    """Return the answer of a ranking, as schemas.RankResponse describes it.

    Args:
        request_id: of the request.
        ranking: the result.
        parameters: of the user's arm in every layer.
    """
    model, rest = rank_model(ranking), rank_rest(ranking)
    return b"".join([b'{"request_id":', orjson.dumps(request_id), model, orjson.dumps(parameters), rest])


def rank_headers(ranking: Ranking) -> Headers:
    """Return the headers that only the answer of a ranking has."""
    model = f"{ranking.model}@{ranking.version}"
    return [(b"x-model", model.encode()), (b"server-timing", server_timing(ranking.timings))]


def body_headers(size: int) -> Headers:
    """Return the headers of a body of JSON, in Starlette's order."""
    return [(b"content-length", b"%d" % size), (b"content-type", b"application/json")]


def rank_model(ranking: Ranking) -> bytes:
    """Return the part of an answer between the request's id and the parameters."""
    head = {"model": ranking.model, "version": ranking.version, "degraded": ranking.degraded}
    return b"," + orjson.dumps(head)[1:-1] + b',"parameters":'


def rank_rest(ranking: Ranking) -> bytes:
    """Return the part of an answer after the parameters."""
    tail = b"" if ranking.explanation is None else b',"explanation":' + orjson.dumps(ranking.explanation)
    return b"".join([b',"items":[', _items(ranking), b"]", tail, b"}"])


def _items(ranking: Ranking) -> bytes:
    """Return the answered list as JSON, from a piece for each item and the text of its score."""
    if not ranking.item_ids:
        return b""
    count = len(ranking.known) if ranking.known[-1] else ranking.known.count(True)  # unknown items come last
    scores = orjson.dumps(ranking.scores[:count])[1:-1]
    # One format with a place before each score costs less than to split the scores and to join them with the pieces.
    places = [b"%b" + scores.replace(b",", b"},%b")] if count else []
    places += [_UNKNOWN] * (len(ranking.known) - count)
    return (b"},".join(places) + b"}") % _fragments(ranking.item_ids)


def _fragments(item_ids: Sequence[str]) -> tuple[bytes, ...]:
    """Return what is before the score of each item; kept, because the same items are ranked again and again."""
    try:
        found: tuple[bytes, ...] = itemgetter(*item_ids)(_FRAGMENTS)
    except KeyError:
        if len(_FRAGMENTS) + len(item_ids) > _MAX_FRAGMENTS:
            _FRAGMENTS.clear()
        for item_id in item_ids:
            if item_id not in _FRAGMENTS:
                _FRAGMENTS[item_id] = b'{"item_id":%b,"score":' % orjson.dumps(item_id)
        found = itemgetter(*item_ids)(_FRAGMENTS)
    return found if len(item_ids) > 1 else (_FRAGMENTS[item_ids[0]],)


def server_timing(timings: Mapping[str, float]) -> bytes:
    """Return the Server-Timing header of stages in seconds."""
    stages = tuple(timings)
    text = _TIMINGS.get(stages)
    if text is None:
        text = _TIMINGS[stages] = b", ".join([b"%b;dur=%%.3f" % stage.encode() for stage in stages])
    return text % tuple([seconds * 1000 for seconds in timings.values()])
