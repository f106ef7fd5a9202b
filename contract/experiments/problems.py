"""The reasons why an experiment file cannot be used, each with its place in the file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from contract.command_line import CommandError

MAX_PROBLEMS: Final = 8

Place = tuple[str | int, ...]
"""The place of a value in the file: keys and indices from the top."""


class Problem(NamedTuple):
    """One reason why a file cannot be used."""

    text: str
    place: Place = ()  # the place to check; empty means the whole file


class ExperimentsError(CommandError, ValueError):
    """The experiment file cannot be used; `problems` has the first few places and reasons."""

    def __init__(self, problems: Iterable[str | Problem]) -> None:
        found = [Problem(one) if isinstance(one, str) else one for one in problems]
        self.found = tuple(found[:MAX_PROBLEMS])
        self.problems = tuple(one.text for one in self.found)
        super().__init__("experiments: " + "; ".join(self.problems))
