"""Secrets from files: a variable `NAME_FILE` names the file that has the value of the setting `NAME`.

Files are how Docker, Kubernetes and systemd hand secrets to a process: unlike a variable, a file is not in the process
list, not inherited by children, and can be replaced. No message here has a value, not even that of `NAME_FILE`, which a
person may have confused with `NAME`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

ENDING: Final = "_FILE"
MAX_BYTES: Final = 65_536


class SecretFileError(ValueError):
    """The file cannot be used; the message has the reason, and neither path nor content."""


class Secrets(NamedTuple):
    """The values found, and what is wrong with others; both by the setting's variable."""

    values: dict[str, str]
    problems: list[str]


def read_secret(path: str) -> str:
    """Return the content of a file without the line end after it.

    Raises:
        SecretFileError: it cannot be read, is empty, too large, or not text.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        value = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretFileError("the file is not text in UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else None
        raise SecretFileError(f"the file cannot be read ({reason or type(error).__name__})") from None
    if len(content) > MAX_BYTES:
        raise SecretFileError(f"the file has more than {MAX_BYTES} bytes")
    if not value:
        raise SecretFileError("the file is empty")
    return value


def secrets_of(environment: Mapping[str, str], names: Iterable[str]) -> Secrets:
    """Return the values of settings that come from files; names in any case, empty variables count as not set.

    Args:
        environment: the variables of the process.
        names: variables of settings that are secret, in capitals.
    """
    given = {name.upper(): value for name, value in environment.items() if value}
    found = Secrets({}, [])
    for name in names:
        path = given.get(name + ENDING)
        if path is None:
            continue
        if name in given:
            found.problems.append(f"{name}{ENDING}: {name} is set too; set one of them")
            continue
        try:
            found.values[name] = read_secret(path)
        except SecretFileError as error:
            found.problems.append(f"{name}{ENDING}: {error}")
    return found
