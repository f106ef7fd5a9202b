"""Which settings are secret: those whose type is SecretStr, which prints nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from pydantic import SecretStr
from pydantic_settings import BaseSettings, EnvSettingsSource

from contract.secret_files import ENDING


def secret_fields(settings: type[BaseSettings]) -> Iterator[tuple[str, str]]:
    """Yield section and name of every secret setting."""
    for section, group in settings.model_fields.items():
        for name, field in type(group.default).model_fields.items():
            if _is_secret(field.annotation):
                yield section, name


def without_files(source: EnvSettingsSource, settings: type[BaseSettings]) -> EnvSettingsSource:
    """Return a source of variables without those that name files: they are read before (environment.py)."""
    delimiter = source.env_nested_delimiter or ""
    names = {f"{source.env_prefix}{section}{delimiter}{name}{ENDING}" for section, name in secret_fields(settings)}
    files = {name.lower() for name in names}
    source.env_vars = {name: value for name, value in source.env_vars.items() if name.lower() not in files}
    return source


def _is_secret(kind: object) -> bool:
    return kind is SecretStr or any(_is_secret(part) for part in get_args(kind))
