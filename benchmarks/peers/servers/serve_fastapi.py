"""Plain FastAPI: one process, redis-py's asynchronous client, ONNX Runtime in the handler.

uvicorn with uvloop and httptools, no access log; the body is a pydantic model, the answer ready bytes.
"""

import sys
from contextlib import asynccontextmanager

import redis.asyncio
import uvicorn
from fastapi import FastAPI, Response
from pydantic import BaseModel
from ranking import READ, Ranking, key, redis_url


class RankRequest(BaseModel):
    user_id: str
    candidates: list[str]


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.ranking, app.state.redis = Ranking(), redis.asyncio.Redis.from_url(redis_url())
    yield
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.post("/rank")
async def rank(asked: RankRequest) -> Response:
    value = await app.state.redis.getrange(key(asked.user_id), -24 * READ, -1)
    content = app.state.ranking.rank(asked.user_id, asked.candidates, value)
    return Response(content, media_type="application/json")


@app.get("/health")
async def health() -> Response:
    return Response()


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False,
        log_level="warning",
    )  # fmt: skip
