"""mosec: its Rust front, one worker process, dynamic batching.

Batches of up to 32; with 8, 16 and 64 it was slower. The wait for company in ms is its last argument: 1 is the shortest
that mosec knows, 2 fills the batches at 32 connections better. The worker reads a batch from Redis in one round trip.
"""

import sys

import orjson
from mosec import Server, Worker
from ranking import Ranking, Store


class Rank(Worker):
    def __init__(self):
        super().__init__()
        self.ranking, self.store = Ranking(), Store()
        self.resp_mime_type = "application/json"

    def deserialize(self, data):
        asked = orjson.loads(data)
        return asked["user_id"], asked["candidates"]

    def serialize(self, data):
        return data

    def forward(self, data):
        return self.ranking.rank_many(data, self.store.read([user for user, _ in data]))


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Rank, num=1, max_batch_size=32, max_wait_time=int(sys.argv[-1]),
        route="/rank",
    )  # fmt: skip
    server.run()
