"""A file sent over several connections; each user's behaviours go through one of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from contract.behaviours.file import MAX_LISTED, SkippedLines
from service.seed.lines import read_lines
from service.seed.sender import Sender

BATCH: Final = 1_000  # the most that POST /behaviours accepts at once
CONNECTIONS: Final = 4


class Loaded(NamedTuple):
    """The result of loading a file.

    Attributes:
        counts: lines read, skipped; behaviours stored, repeated, refused.
        refused: file, line and reason of the first refused ones, for people.
    """

    counts: Counter[str]
    refused: list[str]


def load(
    path: Path,
    url: str,
    *,
    connections: int = CONNECTIONS,
    batch: int = BATCH,
    skipped: SkippedLines | None = None,
    key: str | None = None,
) -> Loaded:
    """Send a file to a service.

    Args:
        path: the file.
        url: address of the service.
        connections: requests at once.
        batch: behaviours of one request.
        skipped: collects the bad lines; None refuses a file with one before anything is sent.
        key: API key of a caller with the scope `write`; None if the service needs none.

    Raises:
        SeedError: the file cannot be read, or the service does not accept it.
    """
    senders = [Sender(path, url, batch, key) for _ in range(connections)]
    counts: Counter[str] = Counter()
    try:
        if skipped is None:
            for _ in read_lines(path):
                pass
        for line in read_lines(path, skipped):
            counts["read"] += 1
            # One user's behaviours go through one connection, so that they arrive in the order of the file.
            senders[crc32(str(line.behaviour["user_id"]).encode()) % connections].add(line)
    finally:
        for sender in senders:
            sender.finish()
    if skipped is not None:
        counts["skipped"] = skipped.count
        counts["read"] += skipped.count
    for sender in senders:
        sender.check()
        counts += sender.counts
    refused = sorted(refusal for sender in senders for refusal in sender.refused)
    return Loaded(counts, [f"refused: {path}, line {number}: {reason}" for number, reason in refused[:MAX_LISTED]])
