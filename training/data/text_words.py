"""The words of a text that can tell something about an item."""

from __future__ import annotations

from typing import Final

from contract.bundle.item_features import words_of as every_word

_FUNCTION_WORDS: Final = frozenset(
    ("the", "of", "and", "in", "to", "de", "la", "le", "an", "for", "with", "on", "part")
)


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, each once, without function words."""
    return tuple(word for word in dict.fromkeys(every_word(text)) if word not in _FUNCTION_WORDS)
