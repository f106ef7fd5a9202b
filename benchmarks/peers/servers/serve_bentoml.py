"""BentoML: one worker, an asynchronous API in its process; no access log, no metrics.

Its adaptive batching merges requests whose bodies are arrays, or needs a second service behind the first; both add a
hop. One request at a time was faster here.
"""

from typing import Annotated

import bentoml
import redis.asyncio
from bentoml.validators import ContentType
from ranking import READ, Ranking, key, redis_url


@bentoml.service(workers=1, traffic={"timeout": 10}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Ranker:
    def __init__(self) -> None:
        self.ranking, self.redis = Ranking(), redis.asyncio.Redis.from_url(redis_url())

    @bentoml.api(route="/rank")
    async def rank(self, user_id: str, candidates: list[str]) -> Annotated[bytes, ContentType("application/json")]:
        value = await self.redis.getrange(key(user_id), -24 * READ, -1)
        return self.ranking.rank(user_id, candidates, value)
