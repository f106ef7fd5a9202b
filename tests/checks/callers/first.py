"""Calls every operation with the client of openapi-python-client; prints their ids."""

from __future__ import annotations

import json
import sys

from first_client import Client, models
from first_client.api.behaviours import append_behaviours, get_behaviours, send_feedback
from first_client.api.items import store_items
from first_client.api.operations import get_info, get_liveness, get_metrics, get_readiness
from first_client.api.ranking import rank, rank_batch

client = Client(base_url=sys.argv[1])
called = []


def call(operation, **given):
    answer = operation.sync_detailed(client=client, **given)
    assert answer.status_code < 300, (operation.__name__, answer.status_code, answer.content)
    called.append(operation.__name__.rpartition(".")[2])
    return answer.parsed


ranking = {"user_id": "42", "candidates": ["50", "181", "no-such-film"]}
stored = call(
    append_behaviours,
    body=models.BehavioursRequest.from_dict(
        {"behaviours": [{"user_id": "42", "item_id": "100", "ts": 1_700_000_000_000}]}
    ),
)
assert (stored.stored, stored.refused) == (1, 0)
ranked = call(rank, body=models.RankRequest.from_dict(ranking), x_deadline_ms=20_000)
assert [item.item_id for item in ranked.items][-1] == "no-such-film"
assert ranked.items[0].score > ranked.items[1].score
many = call(rank_batch, body=models.RankBatchRequest.from_dict({"rankings": [ranking], "shown": False}))
assert many.results[0].ranking.model == ranked.model
history = call(get_behaviours, user_id="42")
assert history.behaviours[0].ts == 1_700_000_000_000
item = {"item_id": "a9001", "features": {"category": "sport", "words": 480}}
assert call(store_items, body=models.ItemsRequest.from_dict({"items": [item]})).stored == 1
event = {"user_id": "42", "type": "foreground", "event_id": "7f-1"}
assert call(send_feedback, body=models.FeedbackRequest.from_dict({"feedback": [event]})).accepted == 1
assert call(get_info).service == "ranker"
assert call(get_liveness).status == "alive"
assert call(get_readiness).status == "ready"
call(get_metrics)
refused = rank.sync_detailed(client=client, body=models.RankRequest.from_dict(ranking | {"candidates": []}))
assert (refused.status_code, refused.parsed.error.code) == (422, "invalid_request")
print(json.dumps(called))
