"""The section `experiments`: assignment of users to models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from service.settings.group import Group, Milliseconds

MIN_SECRET: Final = 32  # characters: 128 random bits in hexadecimal


def _is_long(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < MIN_SECRET:
        raise ValueError(f"shorter than {MIN_SECRET} characters; `openssl rand -hex 32` makes a good one")
    return secret


LongSecret = Annotated[SecretStr, AfterValidator(_is_long)]
ExperimentState = Annotated[str, Field(pattern=r"^(redis(:[a-z0-9_-]{1,32})?|.*/.*)$")]


class ExperimentsSettings(Group):
    """Assignment of users to models."""

    file: Path | None = None
    """The experiment file, YAML or JSON; without one, all users get `bundles.default_model`."""
    reload_ms: Milliseconds = 5_000
    """How often (ms) to check the file and the state that other replicas accepted."""
    state: ExperimentState = "redis"
    """Where replicas keep the accepted state: `redis`, `redis:NAME`, or a shared file (a path with a slash)."""
    state_timeout_ms: Milliseconds = 1_000
    """How long (ms) a read or write of the state may take."""
    state_copy: Path | None = None
    """File for this replica's copy of the state; used at start if the state cannot be read."""
    show_bucket: bool = True
    """Include the arm bucket (`b`) in X-AB-Bucket."""
    override_secret: LongSecret | None = None
    """Key that signs X-AB-Override, at least 32 characters; without it no override is accepted."""
    pseudonym_key: SecretStr | None = None
    """Key that turns ids of users, authors and devices in events into pseudonyms; without it events have the ids."""
