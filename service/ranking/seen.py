"""Candidates that the user has met before: the items of the behaviours that the ranking knows.

| `seen` | Such candidates |
| --- | --- |
| keep | are ranked like all others |
| last | follow all others, ordered among themselves as before |
| drop | are not scored and not answered |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from contract.behaviours.records import Records, item_keys
from contract.bundle.vocabulary import Vocabulary
from service.ranking.answer import Ranking, reordered
from service.ranking.candidates import Candidates
from service.ranking.listed import Listed


def seen_places(candidates: Candidates, vocabulary: Vocabulary, records: Records) -> list[int]:
    """Return the places of the candidates that the behaviours name, rising.

    Args:
        candidates: of the ranking.
        vocabulary: that their indices are of.
        records: stored and recent behaviours, of any action.
    """
    if not len(records):
        return []
    keys = np.unique(records["item"])
    places: list[int] = candidates.known[np.isin(candidates.indices, vocabulary.indices_of_keys(keys))].tolist()
    if candidates.unknown:
        others = np.isin(item_keys([candidates.item_ids[place] for place in candidates.unknown]), keys)
        places += [place for place, is_seen in zip(candidates.unknown, others.tolist(), strict=True) if is_seen]
        places.sort()
    return places


def without(candidates: Candidates, left_out: Sequence[int], vocabulary: Vocabulary) -> Candidates:
    """Return the candidates but those at some places."""
    is_kept = np.ones(candidates.total, dtype=np.bool_)
    is_kept[list(left_out)] = False
    new_places = np.cumsum(is_kept) - 1
    stays = is_kept[candidates.known]
    indices = candidates.indices[stays]
    if isinstance(candidates.item_ids, Listed):
        item_ids: Sequence[str] = Listed(vocabulary, indices)
    else:
        item_ids = [candidates.item_ids[place] for place in np.flatnonzero(is_kept).tolist()]
    unknown = [int(new_places[place]) for place in candidates.unknown if is_kept[place]]
    return Candidates(item_ids, new_places[candidates.known[stays]], unknown, indices)


def seen_last(ranking: Ranking, seen: frozenset[str], limit: int | None) -> Ranking:
    """Move seen items behind all others, and cut the whole list to its limit."""
    is_seen = np.fromiter((item in seen for item in ranking.item_ids), np.bool_, len(ranking.item_ids))
    return reordered(ranking, np.argsort(is_seen, kind="stable")[:limit].tolist())
