"""One connection to the service, and the thread that feeds it."""

from __future__ import annotations

import http.client
import json
import queue
import re
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from contract.behaviours.file import MAX_LISTED
from service.seed.lines import Line, SeedError

_TRIES: Final = 5
_TIMEOUT_SECONDS: Final = 30
_RETRIED: Final = frozenset({429, 503, 504})
_PLACE: Final = re.compile(r"behaviours\.(\d+)")
_REASONS: Final = {
    "future": "the time is too far ahead of the service's clock",
    "wrong_type": "the user's key in Redis has another type",
}


class _TooLargeError(Exception):
    """The service accepts fewer behaviours at once."""


class Sender:
    """One connection and the thread that feeds it; after an error it drops batches until finished."""

    def __init__(self, file: Path, url: str, batch: int, key: str | None = None) -> None:
        parts = _address(url)
        self.counts: Counter[str] = Counter()
        self.refused: list[tuple[int, str]] = []
        self._file, self._size = file, batch
        self._next: list[Line] = []
        self._error: SeedError | None = None
        self._path = parts.path.rstrip("/") + "/behaviours"
        self._connection = _connection(parts)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
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
                self._connection.request("POST", self._path, body, self._headers)
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
