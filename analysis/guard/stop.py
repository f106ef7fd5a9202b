"""The guard's only edit: `status: stopped` for one running experiment of the experiments file.

Only the word of the status is replaced, so that comments and layout stay as they are. The new text is parsed and
compared with the old one: if anything but that status differs, nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from analysis.experiments_file import parsed
from contract.command_line import CommandError
from contract.experiments.definition import ExperimentsConfig
from contract.experiments.ramps import changes
from contract.files import write_whole


def read(path: Path) -> tuple[str, ExperimentsConfig]:
    """Return the text and the content of an experiments file.

    Raises:
        CommandError: it is missing, or breaks a rule.
    """
    content = path.read_bytes()
    config = parsed(path, content)
    return content.decode(), config


def stop(path: Path, experiment: str) -> bool:
    """Set `status: stopped` for a running experiment; return False if it is stopped already.

    Raises:
        CommandError: the file breaks a rule or has no such running experiment, or the edit would change more.
    """
    text, before = read(path)
    if any(one.key == experiment and one.status == "stopped" for layer in before.layers for one in layer.experiments):
        return False
    edited = _stopped(text, path, experiment)
    told = changes(before, parsed(path, edited.encode()))
    if len(told) != 1 or not told[0].endswith(".status: running -> stopped"):
        raise CommandError(f"{path}: stopping {experiment!r} would change more than its status: {'; '.join(told)}")
    write_whole(path, edited.encode())
    return True


def _stopped(text: str, path: Path, experiment: str) -> str:
    for node in _experiments(yaml.compose(text, Loader=yaml.SafeLoader)):
        fields = {name.value: value for name, value in node.value}
        status = fields.get("status")
        if fields.get("key") is not None and fields["key"].value == experiment and status is not None:
            start, end = status.start_mark.index, status.end_mark.index
            if status.value == "running":
                return text[:start] + text[start:end].replace("running", "stopped") + text[end:]
    raise CommandError(f"{path}: has no running experiment {experiment!r}")


def _experiments(root: Any) -> Iterator[Any]:  # Any: PyYAML's nodes have no types
    """Yield the node of every experiment of every layer."""
    for layer in _field(root, "layers").value:
        experiments = _field(layer, "experiments")
        yield from experiments.value if experiments is not None else ()


def _field(node: Any, name: str) -> Any:
    return next((value for key, value in node.value if key.value == name), None)
