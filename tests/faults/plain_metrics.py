"""The plain build with metrics as many services have them: one counter, labelled by the path of the request."""

import sys

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from serve_fastapi import app
from starlette.requests import Request
from starlette.responses import Response

ANSWERS = Counter("http_requests", "Answers.", ("method", "path", "status"))


@app.middleware("http")
async def count(request: Request, call_next):
    response = await call_next(request)
    ANSWERS.labels(request.method, request.url.path, response.status_code).inc()
    return response


@app.get("/metrics")
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False,
        log_level="warning",
    )  # fmt: skip
