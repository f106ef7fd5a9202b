"""The types of options that several commands have."""

from __future__ import annotations

import argparse
import re
from typing import Final

_UNITS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}


def duration(text: str) -> int:
    """Return the milliseconds of a text such as 1d or 20s."""
    found = re.fullmatch(r"(\d{1,6})([dhms])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a length of time such as 1d, 2h or 20s")
    return int(found[1]) * _UNITS[found[2]]


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def memory(text: str) -> str:
    """Return an amount of memory as DuckDB reads it."""
    if re.fullmatch(r"[1-9]\d{0,8}(?:\.\d+)? ?[KMGT]i?B", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount such as 1600MB or 2GB")
    return text
