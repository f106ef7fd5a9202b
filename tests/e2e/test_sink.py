"""Everything that the real service writes becomes rows: the sink rejects none of it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, get_args

import duckdb
import httpx
import pytest

from analysis.tables.reading import rows
from contract.behaviours.actions import Action
from contract.events.activity import ActivityType
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess
from tests.support.sink_process import SinkProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

USERS = 12
WHOLE = {"item_id": "i1", "author_id": "a1", "device_id": "d1", "view_id": "v1", "play_ms": 900, "duration_ms": 800,
         "tz_offset": -120, "value": 4.5}  # fmt: skip


def feedback(request_ids: list[str]) -> list[dict[str, Any]]:
    """Every type of version 2, with and without a clock that is wrong, and every action of version 1."""
    kinds = [{"type": kind, "event_id": kind, **WHOLE} for kind in get_args(ActivityType)]
    actions = [{"action": action, "item_id": "i1"} for action in get_args(Action)]
    late = {"type": "like", "item_id": "i1", "ts": 1_000_000_000_000}
    users = [{"user_id": f"u{number}", "request_id": request} for number, request in enumerate(request_ids)]
    return [user | event for user in users for event in (*kinds, *actions, late)]


def test_every_event_of_the_service_becomes_one_row(tmp_path: Path, own_redis: RedisServer) -> None:
    service = ServiceProcess(tmp_path, own_redis.url, RANKING_LOG__SHARE="1").start()
    try:
        with httpx.Client(base_url=service.url) as client:
            candidates = [f"i{item}" for item in range(1, 15)] + ["unknown"]
            answers = [
                client.post("/rank", json={"user_id": f"u{number}", "candidates": candidates}).json()
                for number in range(USERS)
            ]
            sent = feedback([answer["request_id"] for answer in answers])
            reply = client.post("/feedback", params={"ack": "stored"}, json={"feedback": sent})
            assert reply.status_code == 200, reply.text
        service.send(signal.SIGTERM)  # the last events are written at the end
        assert service.wait() == 0
    finally:
        service.close()
    sink = SinkProcess(tmp_path / "parquet", own_redis.url, "--once")
    assert sink.run() == 0, sink.log_file.read_text()
    assert not (sink.out / "rejected").exists()
    database = duckdb.connect()
    for table in ("exposures", "activity", "rankings"):
        rows(database, sink.out, table).create(table)
    logged = "SELECT count(*), sum(clamped) FROM activity JOIN rankings USING (req, unit)"
    assert database.execute("SELECT count(*), sum(clamped) FROM activity").fetchall() == [(len(sent), USERS)]
    assert database.execute(logged).fetchall() == [(len(sent), USERS)]
    arms = "list_transform(arms, lambda one: one.arm)"
    joined = f"SELECT count(*) FROM exposures JOIN rankings USING (req, unit) WHERE list_contains({arms}, arm)"
    assert database.execute(joined).fetchall() == [(USERS,)]
