"""A real service with the films that the documents' examples name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.experiments import write_current
from tests.support.builders import TinyModel
from tests.support.redis_server import RedisServer
from tests.support.service_process import ServiceProcess


class Films(TinyModel):
    """A model of those films, and of some others."""

    @property
    def item_ids(self) -> list[str]:
        return ["50", "181", "100", *super().item_ids[3:]]


def film_service(folder: Path, redis_url: str, **settings: str) -> ServiceProcess:
    """Return a service that is not started; both arms have the same model."""
    Films(model="mgnm", version="7").write(folder / "bundles")
    experiments = folder / "experiments.yaml"
    write_current(experiments)
    text = experiments.read_text(encoding="utf-8")
    experiments.write_text(text.replace("pyramid_mixer", "mgnm"), encoding="utf-8")
    return ServiceProcess(folder, redis_url, HTTP__BEHAVIOURS_ENABLED="true", **settings)


@contextmanager
def film_service_with_redis(folder: Path) -> Iterator[ServiceProcess]:
    """Run the service on a Redis that only it uses; both end with the context, also after an error."""
    redis = RedisServer().start()
    process = film_service(folder, redis.url)
    try:
        yield process.start()
    finally:
        process.close()
        redis.close()
