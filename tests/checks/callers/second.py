"""Calls every operation with the Python client of openapi-generator; prints their ids."""

from __future__ import annotations

import json
import sys

import second_client
from second_client import BehavioursApi, ItemsApi, OperationsApi, RankingApi

client = second_client.ApiClient(second_client.Configuration(host=sys.argv[1]))
behaviours, items = BehavioursApi(client), ItemsApi(client)
operations, ranking = OperationsApi(client), RankingApi(client)
called = []


def call(operation, *given, **named):
    called.append(operation.__name__)
    return operation(*given, **named)


wanted = {"user_id": "43", "candidates": ["50", "181", "no-such-film"]}
stored = call(
    behaviours.append_behaviours,
    second_client.BehavioursRequest.from_dict(
        {"behaviours": [{"user_id": "43", "item_id": "100", "ts": 1_700_000_000_000}]}
    ),
)
assert (stored.stored, stored.refused) == (1, 0)
ranked = call(ranking.rank, second_client.RankRequest.from_dict(wanted), x_deadline_ms=20_000)
assert [item.item_id for item in ranked.items][-1] == "no-such-film"
assert ranked.items[0].score > ranked.items[1].score
batch = second_client.RankBatchRequest.from_dict({"rankings": [wanted], "shown": False})
many = call(ranking.rank_batch, batch)
assert many.results[0].ranking.model == ranked.model
history = call(behaviours.get_behaviours, "43")
assert history.behaviours[0].ts == 1_700_000_000_000
item = {"item_id": "a9001", "features": {"category": "sport"}}
assert call(items.store_items, second_client.ItemsRequest.from_dict({"items": [item]})).stored == 1
event = {"user_id": "43", "type": "foreground", "event_id": "7f-2"}
feedback = second_client.FeedbackRequest.from_dict({"feedback": [event]})
assert call(behaviours.send_feedback, feedback).accepted == 1
assert call(operations.get_info).service == "ranker"
assert call(operations.get_liveness).status == "alive"
assert call(operations.get_readiness).status == "ready"
assert "ranker_ready" in call(operations.get_metrics)
status = 200
try:
    ranking.rank(second_client.RankRequest.from_dict(wanted | {"candidates": ["50"] * 2_001}))
except second_client.ApiException as refused:
    status = refused.status
assert status == 413
print(json.dumps(called))
