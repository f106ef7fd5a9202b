"""Ray Serve: one proxy, one replica, requests of a batch read and ranked together.

`serve.batch` waits for no company (0 s). The throughput mode of its docs is on (RAY_SERVE_THROUGHPUT_OPTIMIZED); its
HAProxy mode is not, because that needs a program that no wheel brings. The dashboard is off.
"""

import sys
import time

import orjson
import ray
import redis.asyncio
from ranking import READ, Ranking, key, redis_url
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=256)
class Ranker:
    def __init__(self) -> None:
        self.ranking, self.redis = Ranking(), redis.asyncio.Redis.from_url(redis_url())

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.0)
    async def many(self, asked: list) -> list:
        async with self.redis.pipeline(transaction=False) as pipe:
            for user, _ in asked:
                pipe.getrange(key(user), -24 * READ, -1)
            values = await pipe.execute()
        return self.ranking.rank_many(asked, values)

    async def __call__(self, request: Request) -> Response:
        asked = orjson.loads(await request.body())
        content = await self.many((asked["user_id"], asked["candidates"]))
        return Response(content, media_type="application/json")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1]), "location": "HeadOnly"})
    serve.run(Ranker.bind(), name="ranker", route_prefix="/rank")
    while True:
        time.sleep(3600)
