"""A local stack of the demos: a real Redis and the service on it, with an experiment file and signed overrides."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.processes import free_port, redis_server, service
from deploy.releases import Places


@dataclass(frozen=True)
class Stack:
    """A running stack.

    Attributes:
        url: of the service.
        port: of the service.
        redis: URL of the Redis of behaviours and streams.
        secret: signs X-AB-Override.
        log: the service's output.
    """

    url: str
    port: int
    redis: str
    secret: str
    log: Path


@contextmanager
def local_stack(
    places: Places, experiments: Path, port: int, settings: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Run Redis and the service until the block ends.

    Args:
        places: of the bundles; the service's log and spool are written beside the records.
        experiments: the experiment file.
        port: of the service; another free one is used if it is taken.
        settings: further variables of the service.
    """
    places.records.mkdir(parents=True, exist_ok=True)
    secret, chosen, log = secrets.token_hex(16), free_port(port), places.records / "service.log"
    with redis_server() as redis:
        environment = {
            **os.environ,  # noqa: TID251 (handed on to the child, not read)
            "RANKER_REDIS__URL": redis,
            "RANKER_BUNDLES__ROOT": str(places.bundles),
            "RANKER_EXPERIMENTS__FILE": str(experiments),
            "RANKER_EXPERIMENTS__OVERRIDE_SECRET": secret,
            "RANKER_HTTP__PORT": str(chosen),
            "RANKER_HTTP__DRAIN_DELAY_MS": "0",  # no load balancer waits for this service
            "RANKER_STREAMS__SPOOL": str(places.records / "spool"),
            "RANKER_RANKING_LOG__SHARE": "1",
            "RANKER_PAGE__ENABLED": "true",
            "RANKER_HTTP__DOCS_ENABLED": "true",
            **(settings or {}),
        }
        with service(environment, chosen, log) as url:
            yield Stack(url, chosen, redis, secret, log)
