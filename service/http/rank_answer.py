"""A ranking's answer as bytes: the body, from pieces that are kept, and the headers that only a ranking has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import add
from typing import Final, cast
from weakref import finalize

import numpy as np
import orjson
from numpy.typing import NDArray

from contract.bundle.vocabulary import Vocabulary
from contract.experiments.fields import Parameters
from service.connection.exchange import Headers
from service.metrics.values import Made
from service.ranking.answer import MovedBy, Ranking
from service.ranking.listed import Listed

_UNKNOWN: Final = b'%bnull,"known":false'
_KNOWN: Final[dict[object, bytes]] = {True: b"", False: b',"known":false', "features": b',"known":"features"'}
_TIMINGS: Final[dict[tuple[str, ...], bytes]] = {}  # formats of Server-Timing, by their stages
_BY_INDEX: Final[dict[int, NDArray[np.object_]]] = {}  # by the identity of a vocabulary, as long as that exists


def rank_body(request_id: str, ranking: Ranking, parameters: Parameters) -> bytes:
    """Return the answer of a ranking, as answers.RankResponse describes it.

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
    if ranking.ignored_context:
        tail += b',"ignored_context":' + orjson.dumps(ranking.ignored_context)
    return b"".join([b',"items":[', _items(ranking), b"]", tail, b"}"])


def _items(ranking: Ranking) -> bytes:
    """Return the answered list as JSON, from a piece for each item and the text of its score."""
    if not len(ranking.item_ids):
        return b""
    if ranking.is_mixed:
        return _mixed(ranking)
    count = len(ranking.known) if ranking.known[-1] else ranking.known.count(True)  # unknown items come last
    scores = orjson.dumps(ranking.scores[:count])[1:-1]
    # One format with a place before each score costs less than to split the scores and to join them with the pieces.
    places = [b"%b" + scores.replace(b",", b"},%b")] if count else []
    places += [_UNKNOWN] * (len(ranking.known) - count)
    text = b"},".join(places) + b"}"
    if not isinstance(ranking.item_ids, Listed):
        return text % tuple(_fragments(ranking.item_ids))
    try:
        return text % _fragments_of(ranking.item_ids)
    except TypeError:  # an item that is answered for the first time
        _prepare(ranking.item_ids)
        return text % _fragments_of(ranking.item_ids)


def _mixed(ranking: Ranking) -> bytes:
    """Return the same for a list with unknown items among the others, or with rules."""
    ends = [b""] * len(ranking.known)
    if ranking.known.count(True) < len(ranking.known):
        ends = [_KNOWN[known] for known in ranking.known]
    if ranking.moved is not None:
        ends = list(map(add, ends, _moved_by(ranking.moved)))
    pieces = [b""] * (2 * len(ends))
    pieces[::2], pieces[1::2] = _begins(ranking.item_ids), ends
    return (b"%b" + orjson.dumps(ranking.scores)[1:-1].replace(b",", b"%b},%b") + b"%b}") % tuple(pieces)


def _moved_by(moved: MovedBy) -> list[bytes]:
    """Return the part of each item that names the rules which moved it; empty if none did."""

    def named(moves: int) -> bytes:
        names = [name for number, name in enumerate(moved.names) if moves >> number & 1]
        return b',"rules":%b' % orjson.dumps(names) if names else b""

    pieces = Made(named)
    return list(map(pieces.__getitem__, moved.moves))


def _begins(item_ids: Sequence[str]) -> Sequence[bytes]:
    if not isinstance(item_ids, Listed):
        return _fragments(item_ids)
    found = _fragments_of(item_ids)
    if None in found:  # an item that is answered for the first time
        _prepare(item_ids)
        found = _fragments_of(item_ids)
    return cast(tuple[bytes, ...], found)


def _fragments(item_ids: Sequence[str]) -> list[bytes]:
    """Return what is before the score of each item; in a large catalogue, pieces that are kept are rarely found.

    Quotes and line breaks inside an id are escaped. Without the first quote, `","` is only between two ids: with it, an
    id that is one comma would be cut too. No id has a line break.
    """
    ids = orjson.dumps(item_ids)[2:-2].replace(b'","', b'","score":\n{"item_id":"')
    return (b'{"item_id":"%b","score":' % ids).split(b"\n")


def _fragments_of(listed: Listed) -> tuple[bytes | None, ...]:
    """Return the same by index, where no id need be hashed; None where there is none yet."""
    prepared = _BY_INDEX.get(id(listed.vocabulary))
    if prepared is None:
        prepared = _begin_pieces(listed.vocabulary)
    return tuple(prepared.take(listed.indices).tolist())


def _begin_pieces(vocabulary: Vocabulary) -> NDArray[np.object_]:
    pieces = _BY_INDEX[id(vocabulary)] = np.full(len(vocabulary) + 1, None, dtype=object)
    finalize(vocabulary, _BY_INDEX.pop, id(vocabulary))
    return pieces


def _prepare(listed: Listed) -> None:
    prepared = _BY_INDEX[id(listed.vocabulary)]
    for index, fragment in zip(listed.indices.tolist(), _fragments(listed[:]), strict=True):
        prepared[index] = fragment


def server_timing(timings: Mapping[str, float]) -> bytes:
    """Return the Server-Timing header of stages in seconds."""
    stages = tuple(timings)
    text = _TIMINGS.get(stages)
    if text is None:
        text = _TIMINGS[stages] = b", ".join([b"%b;dur=%%.3f" % stage.encode() for stage in stages])
    return text % tuple([seconds * 1000 for seconds in timings.values()])
