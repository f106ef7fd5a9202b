"""The rules for ids, times, actions, play times and values, in files and on the wire.

`training prepare`, `service.seed` and the HTTP routes all use these rules, so that a value accepted by
one is accepted by the others (docs/data.md and docs/http-api.md list them).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from contract.behaviours.actions import ACTION_CODES, DEFAULT_ACTION

MAX_ID_BYTES: Final = 128
ID_RULE: Final = f"1 to {MAX_ID_BYTES} bytes of UTF-8, without control characters and without blanks at either end"

MIN_TIME_MS: Final = 31_536_000_000
"""The beginning of 1971. Read as milliseconds, every time in seconds up to the year 2969 is before it."""
MAX_FUTURE_MS: Final = 300_000
"""How far ahead of the clock a behaviour may be, in files and, unless `limits.max_future_ms` differs, on the wire."""
SECONDS_HINT: Final = "is before 1971: times are milliseconds since the epoch, and this looks like seconds"
LATE_HINT: Final = "is after the year 9999: times are milliseconds since the epoch, not micro- or nanoseconds"

TimeProblem = Literal["before_1971", "future"]

_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # C0, DEL, C1, lone surrogates
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NUMBER_CHARACTERS: Final = re.compile(r"[0-9.eE+-]*")
_ACTIONS: Final = {"": ACTION_CODES[DEFAULT_ACTION], **ACTION_CODES}
_MAX_SHOWN: Final = 40


def is_text(text: str) -> bool:
    """Return whether a text is 1 to 128 bytes of UTF-8 without control characters."""
    return not _FORBIDDEN.search(text) and 1 <= len(text.encode()) <= MAX_ID_BYTES


def is_id(text: str) -> bool:
    """Return whether a text is an id: as `is_text`, and without blanks (any Unicode white space) at either end."""
    return is_text(text) and text == text.strip()


def are_ids(texts: Sequence[str]) -> bool:
    """Return whether all texts are ids: as `is_id` of each, but checked together."""
    joined = "".join(texts)
    is_plain = joined.isascii() and joined.isprintable()
    if not is_plain and _FORBIDDEN.search(joined):
        return False
    if (" " in joined or not is_plain) and any(text != text.strip() for text in texts):
        return False
    sizes = list(map(len, texts)) if is_plain else [len(text.encode()) for text in texts]
    return not sizes or (min(sizes) >= 1 and max(sizes) <= MAX_ID_BYTES)


def id_problem(text: str) -> str:
    """Return the problem with an id, "" if it is valid."""
    if not text:
        return "is empty"
    return "" if is_id(text) else f"{shown(text)} is not an id: {ID_RULE}"


def time_problem(time_ms: int, latest_ms: int) -> TimeProblem | None:
    """Return why a time cannot be right: before 1971 (seconds sent as milliseconds), or after `latest_ms`."""
    if time_ms < MIN_TIME_MS:
        return "before_1971"
    return "future" if time_ms > latest_ms else None


def is_number(text: str) -> bool:
    """Return whether a text is a decimal number: digits, a point, an exponent; no `_`, `nan`, `inf` or other digits."""
    return _NUMBER.fullmatch(text) is not None


def numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    """Return the decimal numbers of cells, NaN if a cell is not one; shape (N,)."""
    if _NUMBER_CHARACTERS.fullmatch("".join(cells)):
        try:
            return np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))
        except ValueError:
            pass
    return np.array([float(cell) if is_number(cell) else np.nan for cell in cells], dtype=np.float64)


def action_code(text: str) -> int:
    """Return the code of an action's name, that of `click` for "", 0 for an unknown name."""
    return _ACTIONS.get(text, 0)


def shown(text: str) -> str:
    """Return a bad value in the form that an error shows: quoted, control characters escaped, cut to 40 characters."""
    cut = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
    return ascii(cut) if _FORBIDDEN.search(cut) or cut != cut.strip() else repr(cut)
