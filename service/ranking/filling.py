"""From what is known of a call to its row of the model's inputs."""

from __future__ import annotations

import numpy as np

from contract.behaviours.records import Records
from service.inference.inputs import RankRow
from service.metrics import Metrics
from service.ranking import interleaved
from service.ranking.call import RankCall
from service.ranking.history import not_stored
from service.ranking.seen import seen_places, without
from service.ranking.targets import arm_weights


def fill(call: RankCall, observer: Metrics) -> None:
    """Build the model's inputs from the stored behaviours and those of the request."""
    stored = call.stored
    if stored.status == "unavailable":
        call.degraded.append("store_unavailable")
    elif stored.status == "wrong_type" or stored.corrupt:
        call.degraded.append("behaviours_corrupt")
    fresh = not_stored(call.recent, stored.records)
    call.fresh = len(fresh)
    records, notes = stored.records, stored.notes
    if len(fresh):
        records, notes = np.concatenate([records, fresh]), None
    if call.seen != "keep":
        _part_the_seen(call, records, observer)
    call.row = RankRow(
        call.user_id,
        records,
        call.candidates.indices,
        call.request_time_ms,
        call.explain,
        notes,
        context=call.context,
        unknown=len(call.candidates.unknown),
    )
    if call.serving.bundle.manifest.targets:
        call.row = call.row._replace(weights=arm_weights(call.serving.bundle, call.decision.parameters))
    call.cost, call.until = max(1, len(call.candidates.indices)), call.cutoff
    if call.halves:
        interleaved.fill(call)


def _part_the_seen(call: RankCall, records: Records, observer: Metrics) -> None:
    """Leave candidates that the user has met out, or note them for the end of the list."""
    vocabulary = call.serving.bundle.items
    places = seen_places(call.candidates, vocabulary, records)
    observer.seen_candidates(call.seen, len(places))
    if not places:
        return
    if call.seen == "drop":
        call.candidates = without(call.candidates, places, vocabulary)
    else:
        call.seen_ids = frozenset([call.candidates.item_ids[place] for place in places])
