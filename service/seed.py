"""Load a behaviours file into a running service, through its own front door.

    python -m service.seed data/ml-100k/behaviours.csv --url http://127.0.0.1:8000

The file is CSV with a header: user_id, item_id and ts (ms since epoch), and where known action, play_ms and value.
Lines that cannot be sent are named and skipped. Appending is idempotent, so that a load can be run again.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import queue
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

from contract.behaviours import ACTION_CODES, MAX_PLAY_MS, MAX_TIME_MS, MAX_VALUE

BATCH: Final = 1_000  # what POST /behaviours takes at once
CONNECTIONS: Final = 4
MAX_ID_BYTES: Final = 128
MAX_SHOWN: Final = 10

_TRIES: Final = 5
_TIMEOUT_SECONDS: Final = 30
_REQUIRED: Final = ("user_id", "item_id", "ts")
_RETRIED: Final = frozenset({429, 503, 504})

Behaviour = dict[str, str | int | float]


class SeedError(Exception):
    """The load cannot go on; the message says why."""


class Line(NamedTuple):
    """One line of the file: a behaviour, or what is wrong with it."""

    number: int
    behaviour: Behaviour | None
    problem: str


def read_lines(path: Path) -> Iterator[Line]:
    """Read a behaviours file line by line.

    Raises:
        SeedError: it cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in _REQUIRED if name not in (rows.fieldnames or ())]
            if missing:
                raise SeedError(f"{path}: line 1: no column {', '.join(missing)}")
            for row in rows:
                yield _line(rows.line_num, row)
    except OSError as error:
        raise SeedError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SeedError(f"{path}: not CSV in UTF-8 ({error})") from error


def load(path: Path, url: str, *, connections: int = CONNECTIONS, batch: int = BATCH) -> tuple[Counter[str], list[str]]:
    """Send a file to a service.

    Returns:
        How many behaviours were read, stored, repeated, refused and invalid; what is wrong with the first of these.

    Raises:
        SeedError: the file cannot be read, or the service does not take it.
    """
    counts: Counter[str] = Counter()
    problems: list[str] = []
    senders = [_Sender(url, batch) for _ in range(connections)]
    try:
        for line in read_lines(path):
            counts["read"] += 1
            if line.behaviour is not None:
                # One user's behaviours go through one connection, so that they arrive in the order of the file.
                senders[crc32(str(line.behaviour["user_id"]).encode()) % connections].add(line.behaviour)
                continue
            counts["invalid"] += 1
            if len(problems) < MAX_SHOWN:
                problems.append(f"{path}:{line.number}: {line.problem}")
    finally:
        for sender in senders:
            sender.finish()
    for sender in senders:
        sender.check()
        counts += sender.counts
    return counts, problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status: 1 where something was left out."""
    parser = argparse.ArgumentParser(
        prog="python -m service.seed", description="Load behaviours into a running service."
    )
    parser.add_argument("file", type=Path, help="CSV: user_id,item_id,ts[,action,play_ms,value]")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the service listens")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="requests at once")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        counts, problems = load(options.file, options.url, connections=max(1, options.connections))
    except SeedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    seconds = time.monotonic() - began
    told = ", ".join(f"{counts[name]:,} {name}" for name in ("read", "stored", "repeated", "refused", "invalid"))
    sys.stdout.write(f"{told} in {seconds:.1f} s\n")
    return 1 if counts["invalid"] or counts["refused"] else 0


class _Sender:
    """One connection and the thread that feeds it; after an error it takes batches and drops them, until finished."""

    def __init__(self, url: str, batch: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SeedError(f"not an http address: {url}")
        self.counts: Counter[str] = Counter()
        self._size = batch
        self._next: list[Behaviour] = []
        self._error: SeedError | None = None
        self._path = parts.path.rstrip("/") + "/behaviours"
        self._connection = _connection(parts)
        self._batches: queue.Queue[list[Behaviour] | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, behaviour: Behaviour) -> None:
        """Add to the next batch; waits while two are ahead of it.

        Raises:
            SeedError: an earlier batch was not taken.
        """
        self._next.append(behaviour)
        if len(self._next) >= self._size:
            self.check()
            self._batches.put(self._next)
            self._next = []

    def finish(self) -> None:
        """Send what is left and wait for all of it."""
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

    def _send(self, batch: list[Behaviour]) -> None:
        answer = self._post(json.dumps({"behaviours": batch}).encode())
        for name in ("stored", "repeated", "refused"):
            value = answer.get(name, 0)
            self.counts[name] += len(value) if isinstance(value, list) else int(value)

    def _post(self, body: bytes) -> dict[str, Any]:  # Any: JSON
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
                problem, wait = f"{response.status} {_message(content)}", _seconds(response.headers.get("Retry-After"))
                if response.status not in _RETRIED:
                    break
            if attempt < _TRIES - 1:
                time.sleep(wait)
        raise SeedError(f"POST {self._path}: {problem}")


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return make(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)


def _object(content: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        answer = json.loads(content)
        if isinstance(answer, dict):
            return answer
    raise SeedError("POST /behaviours answered no JSON object: is this the service?")


def _message(content: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(content)["error"]["message"])[:200]
    return ""


def _seconds(retry_after: str | None) -> float:
    return min(float(retry_after), 5.0) if retry_after and retry_after.isdigit() else 0.2


def _line(number: int, row: dict[str, Any]) -> Line:  # Any: text, or a list of surplus fields under the key None
    try:
        if row.get(None) or None in row.values():  # type: ignore[call-overload]
            raise ValueError("as many fields as the header has are needed")
        behaviour: Behaviour = {name: parse(name, row[name]) for name, parse in _FIELDS if row.get(name)}
        absent = [name for name in _REQUIRED if name not in behaviour]
        if absent:
            raise ValueError(f"{absent[0]} is empty")
    except ValueError as error:
        return Line(number, None, str(error))
    return Line(number, behaviour, "")


def _identifier(name: str, text: str) -> str:
    if len(text.encode()) > MAX_ID_BYTES:
        raise ValueError(f"{name} is longer than {MAX_ID_BYTES} bytes")
    return text


def _action(name: str, text: str) -> str:
    if text not in ACTION_CODES:
        raise ValueError(f"{name} is unknown: {text[:64]}")
    return text


def _whole(most: int) -> Callable[[str, str], int]:
    def parse(name: str, text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) > most:
            raise ValueError(f"{name} is no whole number of 0-{most}")
        return int(text)

    return parse


def _value(name: str, text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= MAX_VALUE:
            return float(text)
    raise ValueError(f"{name} is no number of 0-{MAX_VALUE}")


_FIELDS: Final[tuple[tuple[str, Callable[[str, str], str | int | float]], ...]] = (
    ("user_id", _identifier),
    ("item_id", _identifier),
    ("ts", _whole(MAX_TIME_MS - 1)),
    ("action", _action),
    ("play_ms", _whole(MAX_PLAY_MS)),
    ("value", _value),
)

if __name__ == "__main__":
    sys.exit(main())
