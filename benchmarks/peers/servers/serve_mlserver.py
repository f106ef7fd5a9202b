"""MLServer: a custom runtime with a custom handler, in the main process (parallel_workers 0).

The model is faster than the hop to a worker process. Debug and gzip are off, and with them the access log. Its adaptive
batching serves its own inference protocol only, whose tensors of strings cost more than they save here.
"""

import orjson
import redis.asyncio
from mlserver import MLModel
from mlserver.handlers import custom_handler
from ranking import READ, Ranking, key, redis_url
from starlette.requests import Request
from starlette.responses import Response


class Ranker(MLModel):
    async def load(self) -> bool:
        self.ranking, self.redis = Ranking(), redis.asyncio.Redis.from_url(redis_url())
        return True

    @custom_handler(rest_path="/rank")
    async def rank(self, request: Request) -> Response:
        asked = orjson.loads(await request.body())
        value = await self.redis.getrange(key(asked["user_id"]), -24 * READ, -1)
        content = self.ranking.rank(asked["user_id"], asked["candidates"], value)
        return Response(content, media_type="application/json")
