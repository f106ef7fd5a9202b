"""The section `http`: the port and its connections."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from service.settings.group import Bytes, Count, Group, Milliseconds, Pause

MAX_WORKERS: Final = 256
Origin = Annotated[
    str, Field(pattern=r"^(\*|https?://[a-z0-9.\-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?)$")
]


class HttpSettings(Group):
    """The port and its connections."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """TCP port to listen on; 0 takes a free one."""
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = 1
    """Processes behind the port (`--workers`); every limit is for each of them. 1 means no supervisor."""
    backlog: Count = 2_048
    """Maximum number of connections that wait in the kernel to be accepted."""
    max_connections: Count = 4_096
    """Maximum number of open connections, including idle ones; above it a connection gets 503 and is closed."""
    keep_alive_ms: Milliseconds = 75_000
    """How long (ms) an idle connection stays open. Keep it above the idle timeout of a proxy in front."""
    header_timeout_ms: Milliseconds = 5_000
    """How long (ms) a request's headers may take to arrive."""
    body_timeout_ms: Milliseconds = 10_000
    """How long (ms) a request's body may take to arrive."""
    write_timeout_ms: Milliseconds = 10_000
    """How long (ms) a caller may take to read an answer."""
    max_unsent_bytes: Bytes = 67_108_864
    """Maximum bytes of unread answers over all connections; above it the slowest connections are closed."""
    drain_delay_ms: Pause = 3_000
    """How long (ms) after SIGTERM the service still accepts requests while not ready, so that balancers notice."""
    drain_while_asked_ms: Pause = 0
    """How long (ms) after that delay, at most, it still accepts while requests come. Not with several workers."""
    drain_timeout_ms: Milliseconds = 15_000
    """How long (ms) accepted requests may take after these delays before they are abandoned."""
    cors_origins: tuple[Origin, ...] = ()
    """Origins whose pages may call the service from a browser, such as ["https://feed.example"]; ["*"] allows all."""
    docs_enabled: bool = False
    """Serve /docs and /openapi.json."""
    behaviours_enabled: bool = False
    """Serve GET /behaviours/{user_id}. It shows what a user did, so use it only in staging."""
