"""The floor: a bare ASGI application that reads the request and answers with the ready bytes of a real ranking.

With `log` as its third argument it writes uvicorn's access line for each request, as the service writes its own.
"""

import sys
from pathlib import Path

import uvicorn

BODY = Path(sys.argv[2]).read_bytes()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}
END = {"type": "http.response.body", "body": BODY}


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(END)


if __name__ == "__main__":
    is_logged = sys.argv[3:] == ["log"]
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off",
        access_log=is_logged, log_level="info" if is_logged else "warning",
    )  # fmt: skip
