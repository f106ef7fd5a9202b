"""A command as the bytes that Redis reads."""

from __future__ import annotations

from functools import lru_cache

from service.redis.replication import Words


def packed(words: Words) -> bytes:
    """Return a command as an array of bulk strings."""
    pieces = [b"$%d\r\n%b\r\n" % (len(word), word) if isinstance(word, bytes) else _piece(word) for word in words]
    return b"*%d\r\n%b" % (len(pieces), b"".join(pieces))


@lru_cache(maxsize=1_024)
def _piece(word: str | int) -> bytes:
    """Return a word as it is sent; names of commands and numbers come again and again."""
    text = str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)
