"""The behaviours of a file, as POST /behaviours takes them, each with its line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from contract.behaviours.actions import ACTIONS
from contract.behaviours.columns import Chunk
from contract.behaviours.csv_rows import FileError, Problem
from contract.behaviours.file import BadLineError, BehaviourFile
from contract.behaviours.grammar import MAX_FUTURE_MS
from contract.command_line import CommandError

Behaviour = dict[str, str | int | float]


class SeedError(CommandError):
    """The load cannot continue; the message names the reason."""


class Line(NamedTuple):
    """A behaviour and the line where it begins."""

    number: int
    behaviour: Behaviour


def read_lines(path: Path, on_skip: Callable[[Problem], None] | None = None) -> Iterator[Line]:
    """Read a behaviours file.

    Args:
        path: the file; unpacked if its name ends in .gz.
        on_skip: called with each bad line, which is skipped; None stops at the first one.

    Raises:
        SeedError: it cannot be read, lacks a column, or a line is bad.
    """
    file = BehaviourFile(path, time.time_ns() // 1_000_000 + MAX_FUTURE_MS, on_skip)
    try:
        for chunk in file.chunks():
            yield from _lines(chunk)
    except FileError as error:
        raise SeedError(str(error)) from error
    except BadLineError as error:
        told = f"{error} (nothing was sent; --skip-bad-lines skips, counts and lists such lines)"
        raise SeedError(told) from error


def _lines(chunk: Chunk) -> Iterator[Line]:
    columns = (chunk.lines, chunk.times_ms, chunk.actions, chunk.plays_ms, chunk.values)
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    for user, item, (line, ts, action, play_ms, value) in zip(chunk.users, chunk.items, numbers, strict=True):
        behaviour: Behaviour = {"user_id": user, "item_id": item, "ts": ts, "action": ACTIONS[action - 1]}
        if play_ms:
            behaviour["play_ms"] = play_ms
        if value:
            behaviour["value"] = value / 10
        yield Line(line, behaviour)
