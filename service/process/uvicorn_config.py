"""How uvicorn serves a port: with our protocol, and without headers and logs of its own."""

from __future__ import annotations

import functools

import uvicorn
from fastapi import FastAPI

from service.connection.protocol import Guard, GuardedProtocol
from service.settings.http import HttpSettings


def uvicorn_config(app: FastAPI, guard: Guard, http: HttpSettings) -> uvicorn.Config:
    """Return uvicorn's settings for an application.

    Args:
        app: what answers.
        guard: limits and counts of the port's connections.
        http: backlog and idle time.
    """
    return uvicorn.Config(
        app,
        http=functools.partial(GuardedProtocol, guard),  # type: ignore[arg-type]  # called as a class is
        ws="none",
        lifespan="off",
        loop="uvloop",
        backlog=http.backlog,
        timeout_keep_alive=http.keep_alive_ms / 1000,  # type: ignore[arg-type]  # seconds, used as such
        server_header=False,
        date_header=False,
        access_log=False,
        log_config=None,
        proxy_headers=False,
    )
