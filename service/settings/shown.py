"""The settings as people read them: the example file, the effective values."""

from __future__ import annotations

from pydantic import SecretStr

from contract.redis_url.address import RedisUrlError
from contract.redis_url.parse import parse_redis_url
from service.settings.environment import variables
from service.settings.root import DELIMITER, PREFIX, Settings


def env_example() -> str:
    """Return the text of .env.example: every variable with its description and its default."""
    lines = ["# Every setting of the service with its default (`python -m service --env-example`).", ""]
    for group_name, group in Settings.model_fields.items():
        lines.append(f"# --- {group_name}: {group.description}")
        defaults = effective(Settings.model_construct())
        for name, field in variables():
            if name.startswith(f"{PREFIX}{group_name}{DELIMITER}".upper()):
                lines += [f"# {field.description}", f"{name}={defaults[name]}"]
        lines.append("")
    return "\n".join(lines)


def effective(settings: Settings) -> dict[str, str]:
    """Return every variable with its effective value; secrets are replaced, a URL keeps its host."""
    values: dict[str, str] = {}
    for name, _ in variables():
        group, _, field = name.removeprefix(PREFIX).lower().partition(DELIMITER)
        values[name] = _shown(field, getattr(getattr(settings, group), field))
    return values


def _shown(field: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return _redacted(value.get_secret_value()) if field == "url" else "***"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{','.join(str(part) for part in value)}]"
    return "" if value is None else str(value)


def _redacted(url: str) -> str:
    """Return a Redis URL without its credentials and options, and nothing of one that does not parse."""
    try:
        return str(parse_redis_url(url))
    except RedisUrlError:
        return "***"
