"""The words of a text that can tell something about an item."""

from __future__ import annotations

import re
from typing import Final

_WORD = re.compile(r"[^\W\d_]{2,}")
_FUNCTION_WORDS: Final = frozenset(
    ("the", "of", "and", "in", "to", "de", "la", "le", "an", "for", "with", "on", "part")
)


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, each once, without function words."""
    return tuple(word for word in dict.fromkeys(_WORD.findall(text.lower())) if word not in _FUNCTION_WORDS)
