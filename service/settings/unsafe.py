"""Unsafe choices in the settings: the service works with them, and warns of each at start."""

from __future__ import annotations

from collections.abc import Iterator

from service.settings.experiments import MIN_SECRET
from service.settings.root import PREFIX, Settings


def warnings(settings: Settings) -> list[str]:
    """Return the unsafe choices, each with its variable."""
    found = (*_of_callers(settings), *_of_limits(settings), *_of_bundles(settings), *_of_stores(settings))
    return [f"{PREFIX}{name}: {problem}" for name, problem in found]


def _of_callers(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.access.file is None:
        yield "ACCESS__FILE", "not set, so no API keys: everyone who reaches the port may read and write every history"
    elif settings.admin.port is not None and not settings.access.on_admin_port:
        yield "ACCESS__ON_ADMIN_PORT", "off, so everyone who reaches the port of operators may use it"
    if settings.page.enabled:
        yield "PAGE__ENABLED", "everyone who may open the page sees what users did, and can add clicks to any history"
    if settings.http.behaviours_enabled:
        yield "HTTP__BEHAVIOURS_ENABLED", "GET /behaviours/{user_id} shows what a user did"
    if settings.http.docs_enabled:
        yield "HTTP__DOCS_ENABLED", "/docs and /openapi.json describe every route; production needs neither"


def _of_limits(settings: Settings) -> Iterator[tuple[str, str]]:
    limits = settings.limits
    if limits.deadline_ms > limits.max_deadline_ms:
        longest = f"{PREFIX}LIMITS__MAX_DEADLINE_MS ({limits.max_deadline_ms})"
        yield "LIMITS__DEADLINE_MS", f"more than {longest}, so a ranking may take only so long"


def _of_bundles(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.bundles.signers is None:
        yield "BUNDLES__SIGNERS", "not set, so every bundle in the folder may be served, signed or not"


def _of_stores(settings: Settings) -> Iterator[tuple[str, str]]:
    for warning in settings.redis.address.warnings:
        yield "REDIS__URL", warning
    if settings.streams.enabled and settings.streams.url is not None:
        for warning in settings.streams_address.warnings:
            yield "STREAMS__URL", warning
    key = settings.experiments.pseudonym_key
    if key is not None and len(key.get_secret_value()) < MIN_SECRET:
        yield (
            "EXPERIMENTS__PSEUDONYM_KEY",
            f"shorter than {MIN_SECRET} characters, so it may be guessed and pseudonyms turned into ids",
        )
    if settings.ranking_log.share and not settings.streams.enabled:
        yield "RANKING_LOG__SHARE", f"nothing is logged, because {PREFIX}STREAMS__ENABLED is false"
