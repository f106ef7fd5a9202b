"""The events of a stream that the service writes."""

from __future__ import annotations

import json
from typing import Any

from redis import Redis

from tests.support.redis_server import RedisServer


def stream(server: RedisServer, name: str) -> list[dict[str, Any]]:
    """Return the events of a stream, oldest first."""
    with Redis(unix_socket_path=str(server.socket)) as client:
        return [json.loads(fields[b"event"]) for _, fields in client.xrange(name)]  # type: ignore[union-attr]
