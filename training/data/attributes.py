"""Attributes of requests, such as the device: one text per event of a log, as small integers; 0 is not known.

Symbols: N rows of a batch, R rows of the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.bundle.context import MAX_TEXT, MAX_VALUES
from contract.files import read_object, write_json

Codes = NDArray[np.int32]

ATTRIBUTES_FILE: Final = "attributes.json"
_NONE: Final = -1


class Numbering(NamedTuple):
    """The final codes of an attribute.

    Attributes:
        texts: of the codes from 1.
        of_source: the code of each code of the source, after that of -1.
    """

    texts: tuple[str, ...]
    of_source: NDArray[np.int64]

    def codes(self, source: NDArray[Any]) -> NDArray[np.int64]:
        """Return the final codes of codes of the source."""
        return self.of_source[source.astype(np.int64) + 1]


class AttributeValues:
    """The values of one attribute, numbered at their first appearance in the source."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._counts = np.zeros(0, dtype=np.int64)

    def code(self, texts: Sequence[str]) -> tuple[Codes, dict[int, str]]:
        """Return the code of each text (N,), -1 for an empty one, and the problems of texts that are too long."""
        known = self._codes
        bad = {
            place: f"is longer than {MAX_TEXT} characters" for place, text in enumerate(texts) if len(text) > MAX_TEXT
        }
        for text in dict.fromkeys(texts):
            if 0 < len(text) <= MAX_TEXT:
                known.setdefault(text, len(known))
        codes = np.fromiter((known.get(text, _NONE) for text in texts), dtype=np.int32, count=len(texts))
        counts = np.bincount(codes[codes >= 0], minlength=len(known))
        counts[: len(self._counts)] += self._counts
        self._counts = counts
        return codes, bad

    @property
    def left_out(self) -> int:
        """Return the number of values that are too many: the rarest ones have no code."""
        return max(0, len(self._codes) - MAX_VALUES)

    def numbered(self, known: Sequence[str] = ()) -> Numbering:
        """Return the final codes: the known texts keep theirs, then the most frequent values follow."""
        names = list(self._codes)
        by_count = np.argsort(-self._counts, kind="stable").tolist()
        old = set(known)
        new = [names[code] for code in by_count if names[code] not in old]
        texts = (*known, *new[: max(0, MAX_VALUES - len(known))])
        place = {text: code for code, text in enumerate(texts, start=1)}
        return Numbering(texts, np.array([0, *(place.get(name, 0) for name in names)], dtype=np.int64))


@dataclass(frozen=True)
class Attribute:
    """One attribute of a source in memory.

    Attributes:
        values: of the whole source.
        codes: (R,) of the source.
    """

    values: AttributeValues
    codes: Codes


def write_attributes(directory: Path, attributes: Mapping[str, Sequence[str]]) -> None:
    """Write the texts of all attributes; no file if there are none."""
    if attributes:
        write_json(directory / ATTRIBUTES_FILE, {name: list(texts) for name, texts in attributes.items()})


def read_attributes(directory: Path) -> dict[str, tuple[str, ...]]:
    """Read the texts of all attributes, by name in the order of the mapping.

    Raises:
        BadFileError: the file is damaged.
    """
    if not (directory / ATTRIBUTES_FILE).exists():
        return {}
    return {name: tuple(map(str, texts)) for name, texts in read_object(directory / ATTRIBUTES_FILE).items()}
