"""Batch scoring beside the running service: the same scores, in the same order."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from deploy.scoring.__main__ import main
from service.seed.load import load
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

ITEMS = [f"i{number}" for number in range(1, 21)]
NOW = 1_700_000_900_000


def _behaviours(path: Path) -> Path:
    rng = np.random.default_rng(8)
    columns = (rng.integers(1, 9, 120), rng.integers(1, 25, 120), rng.choice(["click", "like", "dislike"], 120))
    rows = [
        f"u{user},i{item},{1_700_000_000_000 + 1_000 * (n // 2)},{action}"
        for n, (user, item, action) in enumerate(zip(*columns, strict=True))
    ]
    path.write_text("\n".join(("user_id,item_id,ts,action", *rows)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("seen", ["keep", "drop"])
def test_lists_of_batch_scoring_are_the_service_s_rankings(tmp_path: Path, own_redis: RedisServer, seen: str) -> None:
    behaviours = _behaviours(tmp_path / "behaviours.csv")
    service = ServiceProcess(tmp_path, own_redis.url).start()
    try:
        load(behaviours, service.url)
        for row in _scored(tmp_path, behaviours, seen):
            call = {"user_id": row["user_id"], "candidates": ITEMS, "seen": seen, "request_time": NOW}
            answer = httpx.post(f"{service.url}/rank", json=call, timeout=20).json()
            lists = _scored(tmp_path, behaviours, seen, answer["model"]) if answer["model"] != "mgnm" else [row]
            own = next(one for one in lists if one["user_id"] == row["user_id"])
            assert own["item_ids"] == [item["item_id"] for item in answer["items"]]
            assert own["scores"] == pytest.approx([item["score"] for item in answer["items"]], abs=1e-6)
    finally:
        service.close()


def _scored(folder: Path, behaviours: Path, seen: str, model: str = "mgnm") -> list[dict[str, object]]:
    out = folder / f"{model}-{seen}"
    if not out.exists():
        items = folder / "items.txt"
        items.write_text("\n".join(ITEMS))
        bundle = folder / "bundles" / model / "1"
        arguments = [str(bundle), str(behaviours), "--out", str(out), "--candidates", str(items), "--at", str(NOW)]
        assert main([*arguments, "--seen", seen]) == 0
    return list(pq.read_table(out).to_pylist())
