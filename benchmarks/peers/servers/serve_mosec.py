"""mosec: its Rust front, one worker process, dynamic batching.

Batches of up to 32 with the shortest wait that mosec knows (1 ms); longer waits were slower at 1 connection and no
faster at 32. The worker reads the whole batch from Redis in one round trip.
"""

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
        Rank, num=1, max_batch_size=32, max_wait_time=1,
        route="/rank",
    )  # fmt: skip
    server.run()
