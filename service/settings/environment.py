"""The only reader of the environment.

A setting is `RANKER_<SECTION>__<NAME>`, for example `RANKER_REDIS__READ_TIMEOUT_MS=20`. Unknown names are refused at
start, at any level, because a misspelt limit must not be ignored silently. Nothing is read elsewhere or at import.
A secret may come from a file instead, which `RANKER_<SECTION>__<NAME>_FILE` names.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_origin

from pydantic import SecretStr, ValidationError

from contract.secret_files import ENDING, secrets_of
from service.settings.http import MAX_WORKERS
from service.settings.root import DELIMITER, PREFIX, Settings
from service.settings.secret import secret_fields

# Read by the tools around the service and often set in the same shell or container.
FOREIGN: Final = frozenset({"RANKER_DATA", "RANKER_BIND", "RANKER_PORT", "RANKER_RECIPES", "RANKER_BUILD_NETWORK"})

# Settings of the sink (analysis/sink/settings.py), which may share an environment file with the service.
_SINK: Final = f"{PREFIX}SINK{DELIMITER}"

# Kubernetes sets these in every pod of a namespace with a Service whose name begins with `ranker`.
_DISCOVERY: Final = re.compile(
    r"RANKER_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_DISCOVERED: Final = ("tcp://", "udp://", "sctp://")


class SettingsError(ValueError):
    """The settings cannot be used; each problem names its variable, and none shows a value."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a variable is unknown or has an invalid value.
    """
    environment = os.environ  # noqa: TID251 - this is the one reader
    secrets = secrets_of(environment, secret_variables())
    problems = [*unknown_names(environment), *secrets.problems]
    if problems:
        raise SettingsError(problems)
    try:
        return Settings(**_by_section(secrets.values))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [_problem(detail["loc"], detail["msg"], secrets.values) for detail in details]
        raise SettingsError(problems) from error
    except ValueError as error:  # from pydantic-settings, which names the group but not the variable
        raise SettingsError(_bad_lists(environment) or [str(error).splitlines()[0][:200]]) from error


def with_workers(settings: Settings, workers: int | None) -> Settings:
    """Return settings with another number of workers, the same where none is given.

    Raises:
        SettingsError: the number cannot be used.
    """
    if workers is None:
        return settings
    if not 1 <= workers <= MAX_WORKERS:
        raise SettingsError([f"--workers: a number from 1 to {MAX_WORKERS}"])
    return settings.model_copy(update={"http": settings.http.model_copy(update={"workers": workers})})


def override_secret_again() -> SecretStr | None:
    """Return the override secret as its file has it now; None if it does not come from a file.

    Raises:
        SettingsError: the file cannot be used.
    """
    name = f"{PREFIX}EXPERIMENTS{DELIMITER}OVERRIDE_SECRET{ENDING}"
    if not any(variable.upper() == name for variable in os.environ):  # noqa: TID251 - this is the one reader
        return None
    return load_settings().experiments.override_secret


def signers_of_environment() -> Path | None:
    """Return `bundles.signers` of the environment, for programs beside the service that load bundles too."""
    value = os.environ.get(f"{PREFIX}BUNDLES{DELIMITER}SIGNERS")  # noqa: TID251 - this is the one reader
    return Path(value) if value else None


def passed_sockets() -> int:
    """Return how many listening sockets a service manager such as systemd has passed to this process (LISTEN_FDS)."""
    environment = os.environ  # noqa: TID251 - this is the one reader
    count = environment.get("LISTEN_FDS", "")
    return int(count) if environment.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal() else 0


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Return the problems with the names of the environment's RANKER_ variables."""
    known = sorted([name for name, _ in variables()] + [name + ENDING for name in secret_variables()])
    problems = []
    for name in sorted(environment):
        upper = name.upper()
        if upper.startswith(PREFIX) and upper not in known and not _is_foreign(upper, environment[name]):
            near = difflib.get_close_matches(upper, known, n=1)
            problems.append(f"{name[:64]}: unknown setting" + (f"; did you mean {near[0]}?" if near else ""))
    return problems


def variables() -> Iterator[tuple[str, Any]]:  # Any: pydantic's FieldInfo and the default's type
    """Yield the name of every variable with its field, in the order of root.py."""
    for group_name, group in Settings.model_fields.items():
        for name, field in type(group.default).model_fields.items():
            yield f"{PREFIX}{group_name}{DELIMITER}{name}".upper(), field


def secret_variables() -> list[str]:
    """Return the variables of settings that are secret; each may end in `_FILE` and name a file."""
    return [f"{PREFIX}{section}{DELIMITER}{name}".upper() for section, name in secret_fields(Settings)]


def _bad_lists(environment: Mapping[str, str]) -> list[str]:
    """Return the problems with variables of lists that are not JSON."""
    lists = {name for name, field in variables() if get_origin(field.annotation) is tuple}
    return [
        f"{name}: write a list as JSON, for example [1,8]"
        for name, value in sorted(environment.items())
        if name.upper() in lists and not _is_json(value)
    ]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _by_section(values: Mapping[str, str]) -> dict[str, Any]:  # Any: sections; pydantic checks them
    sections: dict[str, Any] = {}
    for variable, value in values.items():
        section, _, name = variable.removeprefix(PREFIX).lower().partition(DELIMITER)
        sections.setdefault(section, {})[name] = value
    return sections


def _problem(location: tuple[int | str, ...], message: str, from_files: Collection[str]) -> str:
    variable = _variable(location)
    ending = ENDING if variable in from_files else ""
    return f"{variable}{ending}: {message.removeprefix('Value error, ')}"


def _is_foreign(name: str, value: str) -> bool:
    if DELIMITER in name:
        return name.startswith(_SINK)
    return name in FOREIGN or bool(_DISCOVERY.fullmatch(name)) or value.startswith(_DISCOVERED)


def _variable(location: tuple[int | str, ...]) -> str:
    return PREFIX + DELIMITER.join(str(part) for part in location[:2]).upper()
