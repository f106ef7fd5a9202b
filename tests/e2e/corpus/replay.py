"""Sends a case over a socket and returns what came back, without what differs from run to run."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import yaml

from contract.bundle.manifest import CONTRACT_VERSION
from contract.experiments.assignment import snapshot_of
from service import __version__
from service.experiments.overrides import sign
from tests.e2e.corpus.case import AWAIT, Case, Piece
from tests.e2e.corpus.rig import SECRET, Rig

_LAST_ID: Final = "one-more-request"
_ONE_MORE: Final = f"GET /health/live HTTP/1.1\r\nhost: ranker\r\nx-request-id: {_LAST_ID}\r\n\r\n"
_SECONDS: Final = 30
_MADE_ID: Final = re.compile(r"(?m)^x-request-id: ([0-9a-f]{32})\r$")
_OVERRIDE: Final = re.compile(r"<override of (\S+) to ([^<>]+?), ([0-9]+) s old>")
_WEIGHTS: Final = re.compile(r'"period_weights":\[[^]]*\]')

Result = dict[str, Any]
Cut = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    """Send bytes at once."""
    yield data


def in_pieces(seed: int) -> Cut:
    """Send bytes in pieces of random lengths, most of them short."""
    chance = random.Random(seed)

    def cut(data: bytes) -> Iterator[bytes]:
        start = 0
        while start < len(data):
            length = chance.choice((1, 2, 7, 40, 300, 5_000, 100_000))
            yield data[start : start + length]
            start += length

    return cut


class Replay:
    """Replays cases against one service.

    Args:
        rig: runs.
        cut: how bytes are cut into what is sent at once.
    """

    def __init__(self, rig: Rig, cut: Cut = whole) -> None:
        self._rig, self._cut = rig, cut
        document = yaml.safe_load((rig.service.folder / "experiments.yaml").read_text())
        self._digest = snapshot_of(document).digest
        self._ids: dict[str, str] = {}  # of requests, to the case

    def all(self, cases: Iterable[Case]) -> dict[str, Result]:
        """Return the result of every case, by name, with its access lines."""
        return self.with_log({case.name: self.run(case) for case in cases})

    def run(self, case: Case) -> Result:
        """Return the answers of a case, and whether the connection was still good for one more request."""
        connection = _Connection(self._rig.service.port, self._cut)
        answers: list[str] = []
        try:
            connection.send(case.send)
            if not case.ends:
                answers = connection.answers(case.requests, case.bodyless)
                connection.send([_ONE_MORE])
            connection.end()
            answers += connection.answers(1_000, case.bodyless, len(answers))
        finally:
            connection.close()
        is_kept = bool(answers) and f"x-request-id: {_LAST_ID}\r\n" in answers[-1]
        return {
            "answers": [self._masked(answer, case) for answer in answers[: -1 if is_kept else None]],
            "kept": is_kept,
        }

    def with_log(self, results: dict[str, Result]) -> dict[str, Result]:
        """Add to the result of each case its access lines; wait until all are written."""
        self.run(Case("", ("GET /end HTTP/1.1\r\nhost: ranker\r\nx-request-id: end-of-the-corpus\r\n\r\n",)))
        self._rig.service.will_log("end-of-the-corpus")
        for line in self._rig.service.log().splitlines():
            entry = json.loads(line)
            name = self._ids.get(entry.get("request_id", ""), "")
            if entry["event"] == "request" and name in results:
                results[name].setdefault("log", []).append(self._entry(entry))
        return results

    def _masked(self, answer: str, case: Case) -> str:
        made = _MADE_ID.search(answer)
        given = re.search(r"(?m)^x-request-id: (.*)\r$", answer)
        if given:
            self._ids[given[1]] = case.name
        if made and made[1] not in str(case.send):
            answer = answer.replace(made[1], "<id>")
        answer = re.sub(r"dur=[0-9]+\.[0-9]{3}(?=[,\r])", "dur=<ms>", answer)
        answer = answer.replace(f'x-ab-config: "{self._digest}"', 'x-ab-config: "<digest>"')
        answer = answer.replace(f'"experiments":{{"digest":"{self._digest}"', '"experiments":{"digest":"<digest>"')
        answer = answer.replace(f'"version":"{__version__}"', '"version":"<version>"')
        answer = answer.replace(f'"contract_version":{CONTRACT_VERSION},', '"contract_version":<version>,')
        answer = re.sub(r'"process_id":\d+', '"process_id":<id>', answer)
        if case.name.startswith(("GET /%69nfo", "GET /info", "HEAD /info")):  # a process id has any number of digits
            answer = re.sub("(?m)^content-length: [0-9]{3,}", "content-length: <bytes>", answer)
        answer = re.sub(r'"experiments":"[0-9a-f]{12}"', '"experiments":"<digest>"', answer)
        answer = re.sub(r'"digest":"(sha256:)?[0-9a-f]{64}"', '"digest":"<digest>"', answer)
        answer = _WEIGHTS.sub(lambda found: re.sub(r"(\.[0-9]{5})[0-9]+", r"\1", found[0]), answer)
        if case.ends:  # whether the service reads the end before it answers is chance
            answer = answer.replace("connection: close\r\n", "")
        if case.hides_body:
            head, _, _ = answer.partition("\r\n\r\n")
            answer = re.sub("(?m)^content-length: [0-9]+", "content-length: <bytes>", head) + "\r\n\r\n<body>"
        return answer

    def _entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        shown = {
            name: value for name, value in entry.items() if name not in {"timestamp", "duration_ms", "event", "level"}
        }
        if re.fullmatch("[0-9a-f]{32}", entry["request_id"]):
            shown["request_id"] = "<id>"
        assert isinstance(entry["duration_ms"], float)
        return dict(sorted(shown.items()))


class _Connection:
    def __init__(self, port: int, cut: Cut) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cut, self._buffer = cut, b""

    def send(self, pieces: Sequence[Piece]) -> None:
        data = b""
        for piece in pieces:
            if piece == AWAIT:
                self._write(data)
                self._until(lambda: b"\r\n\r\n" in self._buffer)
                data = b""
            elif isinstance(piece, str):
                data += _OVERRIDE.sub(_signed, piece).encode("latin-1")
            else:
                data += piece[0].encode("latin-1") * piece[1]
        self._write(data)

    def answers(self, count: int, bodyless: Sequence[int], first: int = 0) -> list[str]:
        """Return the next answers, fewer if the connection ends; interim ones (1xx) do not count."""
        found: list[str] = []
        finals = 0
        while finals < count:
            answer = self._answer(has_body=first + finals not in bodyless)
            if answer is None:
                break
            found.append(answer)
            finals += not re.match("HTTP/1.1 1", answer)
            if f"x-request-id: {_LAST_ID}\r\n" in answer:
                break
        return found

    def end(self) -> None:
        """Shut down the sending side."""
        with suppress(OSError):  # closed by the other side
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def _write(self, data: bytes) -> None:
        with suppress(OSError):  # closed by the other side: what it answered before is read
            for piece in self._cut(data):
                self._socket.sendall(piece)

    def _answer(self, *, has_body: bool) -> str | None:
        if not self._until(lambda: b"\r\n\r\n" in self._buffer):
            return self._rest()
        head, _, _ = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"(?mi)^content-length: ([0-9]+)\r?$", head)
        size = len(head) + 4 + (int(length[1]) if length and has_body else 0)
        if not self._until(lambda: len(self._buffer) >= size):
            return self._rest()
        answer, self._buffer = self._buffer[:size], self._buffer[size:]
        return answer.decode("latin-1")

    def _rest(self) -> str | None:
        """Return what came of an answer that never ended: a fault that the comparison will show."""
        rest, self._buffer = self._buffer, b""
        return rest.decode("latin-1") or None

    def _until(self, is_there: Callable[[], bool]) -> bool:
        while not is_there():
            try:
                data = self._socket.recv(1 << 20)
            except ConnectionError:
                data = b""
            if not data:
                return False
            self._buffer += data
        return True


def _signed(match: re.Match[str]) -> str:
    return sign(SECRET, int(time.time()) - int(match[3]), match[1], match[2])
