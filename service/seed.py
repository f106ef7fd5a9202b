"""Loads a behaviours file into a running service, through its HTTP API.

    python -m service.seed data/ml-100k/behaviours.csv --url http://127.0.0.1:8000

The file is read as `training prepare` reads it (contract.behaviours.file, docs/data.md). A file with a bad line is not
sent at all, unless bad lines are skipped. Appending is idempotent, so a load can be repeated.
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit
from zlib import crc32

from contract.behaviours.actions import ACTIONS
from contract.behaviours.columns import Chunk
from contract.behaviours.csv_rows import FileError, Problem
from contract.behaviours.file import MAX_LISTED, BadLineError, BehaviourFile, SkippedLines
from contract.behaviours.grammar import MAX_FUTURE_MS
from contract.command_line import CommandError, run

BATCH: Final = 1_000  # the most that POST /behaviours accepts at once
CONNECTIONS: Final = 4

_TRIES: Final = 5
_TIMEOUT_SECONDS: Final = 30
_RETRIED: Final = frozenset({429, 503, 504})
_PLACE: Final = re.compile(r"behaviours\.(\d+)")
_REASONS: Final = {
    "future": "the time is too far ahead of the service's clock",
    "wrong_type": "the user's key in Redis has another type",
}

Behaviour = dict[str, str | int | float]


class SeedError(CommandError):
    """The load cannot continue; the message names the reason."""


class _TooLargeError(Exception):
    """The service accepts fewer behaviours at once."""


class Line(NamedTuple):
    """A behaviour and the line where it begins."""

    number: int
    behaviour: Behaviour


class Loaded(NamedTuple):
    """The result of loading a file.

    Attributes:
        counts: lines read, skipped; behaviours stored, repeated, refused.
        refused: file, line and reason of the first refused ones, for people.
    """

    counts: Counter[str]
    refused: list[str]


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


def load(
    path: Path, url: str, *, connections: int = CONNECTIONS, batch: int = BATCH, skipped: SkippedLines | None = None
) -> Loaded:
    """Send a file to a service.

    Args:
        path: the file.
        url: address of the service.
        connections: requests at once.
        batch: behaviours of one request.
        skipped: collects the bad lines; None refuses a file with one before anything is sent.

    Raises:
        SeedError: the file cannot be read, or the service does not accept it.
    """
    senders = [_Sender(path, url, batch) for _ in range(connections)]
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status: 1 if the service refused something, or nothing could be read."""
    options = _parser().parse_args(arguments)
    return run("error", lambda: _load(options))


def _load(options: argparse.Namespace) -> int:
    began = time.monotonic()
    skipped = SkippedLines(options.file) if options.skip_bad_lines else None
    counts, refused = load(options.file, options.url, connections=max(1, options.connections), skipped=skipped)
    for told in [*(skipped.told() if skipped is not None else []), *refused]:
        sys.stderr.write(f"{told}\n")
    if counts["refused"] > len(refused):
        sys.stderr.write(f"refused: {counts['refused'] - len(refused):,} more\n")
    seconds = time.monotonic() - began
    told = ", ".join(f"{counts[name]:,} {name}" for name in ("read", "stored", "repeated", "refused", "skipped"))
    sys.stdout.write(f"{told} in {seconds:.1f} s\n")
    return 1 if counts["refused"] or not counts["read"] > counts["skipped"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.seed", description="Load behaviours into a running service."
    )
    parser.add_argument("file", type=Path, help="CSV, also .gz: user_id,item_id,ts[,action,play_ms,value]")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the service")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="requests at once")
    parser.add_argument(
        "--skip-bad-lines", action="store_true", help="skip, count and list them (default: send nothing)"
    )
    return parser


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


class _Sender:
    """One connection and the thread that feeds it; after an error it drops batches until finished."""

    def __init__(self, file: Path, url: str, batch: int) -> None:
        parts = _address(url)
        self.counts: Counter[str] = Counter()
        self.refused: list[tuple[int, str]] = []
        self._file, self._size = file, batch
        self._next: list[Line] = []
        self._error: SeedError | None = None
        self._path = parts.path.rstrip("/") + "/behaviours"
        self._connection = _connection(parts)
        self._batches: queue.Queue[list[Line] | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, line: Line) -> None:
        """Add to the next batch; waits while two are ahead of it.

        Raises:
            SeedError: an earlier batch was not accepted.
        """
        self._next.append(line)
        if len(self._next) >= self._size:
            self.check()
            self._batches.put(self._next)
            self._next = []

    def finish(self) -> None:
        """Send the rest and wait for all of it."""
        if self._next:
            self._batches.put(self._next)
        self._batches.put(None)
        self._thread.join()
        self._connection.close()

    def check(self) -> None:
        """Raise the error that stopped this sender, if one did."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            if self._error is None:
                try:
                    self._send(batch)
                except SeedError as error:
                    self._error = error

    def _send(self, batch: list[Line]) -> None:
        body = json.dumps({"behaviours": [line.behaviour for line in batch]}, ensure_ascii=False).encode()
        try:
            answer = self._post(body, batch)
        except _TooLargeError:
            half = len(batch) // 2
            self._send(batch[:half])
            self._send(batch[half:])
            return
        for name in ("stored", "repeated", "refused"):
            self.counts[name] += int(answer.get(name, 0))
        for refusal in answer.get("refusals", ()):
            if len(self.refused) < MAX_LISTED:
                reason = str(refusal["reason"])
                self.refused.append((batch[refusal["index"]].number, _REASONS.get(reason, reason)))

    def _post(self, body: bytes, batch: list[Line]) -> dict[str, Any]:  # Any: JSON
        for attempt in range(_TRIES):
            try:
                self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
                response = self._connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()  # the next request connects again
                problem, wait = f"{type(error).__name__}: {error}", 0.1 * 2**attempt
            else:
                if response.status == 200:
                    return _object(content)
                if response.status == 413 and len(batch) > 1:
                    raise _TooLargeError
                problem = f"{response.status} {self._message(content, batch)}"
                wait = _seconds(response.headers.get("Retry-After"))
                if response.status not in _RETRIED:
                    break
            if attempt < _TRIES - 1:
                time.sleep(wait)
        raise SeedError(f"POST {self._path}: {problem}")

    def _message(self, content: bytes, batch: list[Line]) -> str:
        """Return the service's message, and the line of the file that it refers to."""
        with suppress(ValueError, KeyError, TypeError, IndexError):
            error = json.loads(content)["error"]
            field = str(error.get("field") or "")
            place = _PLACE.match(field)
            where = f"{self._file}, line {batch[int(place[1])].number}: " if place else ""
            return f"{where}{field} {str(error['message'])[:200]}".replace("  ", " ")
        return ""


def _address(url: str) -> SplitResult:
    with suppress(ValueError):  # of brackets, or of a port that is not a number
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return parts
    raise SeedError(f"not an http address: {url}; write http://HOST:PORT")


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return make(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)


def _object(content: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        answer = json.loads(content)
        if isinstance(answer, dict):
            return answer
    raise SeedError("POST /behaviours answered no JSON object: is this the service?")


def _seconds(retry_after: str | None) -> float:
    return min(float(retry_after), 5.0) if retry_after and retry_after.isdigit() else 0.2


if __name__ == "__main__":
    sys.exit(main())
