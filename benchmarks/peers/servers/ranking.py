"""The ranking that every peer serves: one bundle, one Redis read, numpy and ONNX Runtime. No code of the service.

Each framework calls `rank` for one request, or `rank_many` for the requests of a batch. Items, order and scores are
those of the service: `benchmarks.peers.answers` compares the bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
import redis

RECORD = np.dtype(
    [("item", "<u8"), ("time", "<u8"), ("play", "<u4"), ("action", "u1"), ("value", "u1"), ("check", "<u2")]
)
ACTIONS = (
    "impression", "click", "play", "finish", "like", "dislike", "comment", "share", "follow", "purchase", "rate",
)  # fmt: skip
READ = 200  # newest records of a user, as the service reads them


def redis_url() -> str:
    """Return where behaviours are."""
    return os.environ["BENCHMARK_REDIS"]


def key(user_id: str) -> bytes:
    """Return a user's key."""
    return b"bhv:{" + user_id.encode() + b"}"


class Ranking:
    """A bundle's two graphs, with its vocabulary."""

    def __init__(self) -> None:
        folder = Path(os.environ["BENCHMARK_BUNDLE"])
        manifest = json.loads((folder / "manifest.json").read_text())
        ids = json.loads((folder / "items.json").read_text())["ids"]
        self.length = manifest["sequence"]["length"]
        self.state = manifest["state"]
        self.ids = ["", *ids]
        self.index = {item: place for place, item in enumerate(ids, start=1)}
        keys = np.array(
            [int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest(), "little") for item in ids],
            dtype=np.uint64,
        )
        self.order = np.argsort(keys)
        self.keys = keys[self.order]
        self.is_read = np.zeros(256, dtype=bool)
        self.is_read[[1 + ACTIONS.index(action) for action in manifest["sequence"]["actions"]]] = True
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # two threads cost twice and save nothing here
        self.encode = onnxruntime.InferenceSession(str(folder / "encode.onnx"), options, ["CPUExecutionProvider"])
        self.score = onnxruntime.InferenceSession(str(folder / "score.onnx"), options, ["CPUExecutionProvider"])
        self.encoded = [output.name for output in self.encode.get_outputs()]
        self.rank_many([("", [ids[0]])], [None])  # warm

    def rank(self, user_id: str, candidates: list[str], value: bytes | None) -> bytes:
        """Return the answer to one request, as JSON."""
        return self.rank_many([(user_id, candidates)], [value])[0]

    def rank_many(self, requests: list[tuple[str, list[str]]], values: list[bytes | None]) -> list[bytes]:
        """Return the answers to a batch: one encode, one score."""
        items = np.stack([self.sequence(value) for value in values])
        state = dict(zip(self.encoded, self.encode.run(None, {"items": items}), strict=True))
        indices = [[self.index[item] for item in candidates] for _, candidates in requests]
        counts = [len(one) for one in indices]
        flat = np.array([place for one in indices for place in one], dtype=np.int64)
        rows = np.repeat(np.arange(len(requests), dtype=np.int64), counts)
        inputs = {name: state[name] for name in self.state} | {"candidates": flat, "rows": rows}
        scores = self.score.run(["scores"], inputs)[0]
        stops = np.cumsum(counts).tolist()
        return [
            self.answer(flat[stop - count : stop], scores[stop - count : stop])
            for stop, count in zip(stops, counts, strict=True)
        ]

    def sequence(self, value: bytes | None) -> np.ndarray:
        """Return the indices of the newest known behaviours, newest last, zeros on the left."""
        row = np.zeros(self.length, dtype=np.int64)
        if not value:
            return row
        records = np.frombuffer(value, dtype=RECORD)
        records = records[self.is_read[records["action"]]]
        places = np.minimum(np.searchsorted(self.keys, records["item"]), len(self.keys) - 1)
        known = self.keys[places] == records["item"]
        newest = np.argsort(records["time"][known], kind="stable")[-self.length :]
        found = self.order[places[known][newest]] + 1
        if len(found):
            row[-len(found) :] = found
        return row

    def answer(self, candidates: np.ndarray, scores: np.ndarray) -> bytes:
        """Return the JSON of one answer, best first."""
        best = np.argsort(-scores, kind="stable")
        ids = self.ids
        items = [
            {"item_id": ids[index], "score": score}
            for index, score in zip(candidates[best].tolist(), scores[best].tolist(), strict=True)
        ]
        return orjson.dumps({"items": items})


class Store:
    """Behaviours, read by a synchronous client: one round trip for a batch."""

    def __init__(self) -> None:
        self.client = redis.Redis.from_url(redis_url())

    def read(self, users: list[str]) -> list[bytes | None]:
        """Return the newest records of each user."""
        if len(users) == 1:
            return [self.client.getrange(key(users[0]), -24 * READ, -1)]
        with self.client.pipeline(transaction=False) as pipe:
            for user in users:
                pipe.getrange(key(user), -24 * READ, -1)
            return pipe.execute()
