"""Open-loop traffic beside a fault: every request leaves when it is due, and becomes one record."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NamedTuple

import orjson
from pydantic import ValidationError

from benchmarks.figures import percentile
from benchmarks.load.sockets import FULL, Offered, Phase, offer
from service.flow.short_turns import short_turns
from service.http.answers import ErrorResponse, RankResponse
from tests.faults.world import Asked, World, is_near, offset

LOST: Final = {"closed", "no answer", "not sent"}  # sent in whole or in part, and no complete answer
REFUSED: Final = {"not connected", "no connection"}  # the port did not take a connection: nothing was sent
DEGRADED: Final = "degraded"
_LONGEST_SECONDS: Final = 3_600
_WRONG: Final = "wrong"
_OF_PROXY: Final = {"502", "503", "504"}  # what a proxy answers by itself


class Seen(NamedTuple):
    """The content of an answer."""

    outcome: str  # "full", "degraded", the status of a refusal, or "wrong"
    reasons: tuple[str, ...] = ()
    variant: str = ""
    version: str = ""
    problem: str = ""
    scores: dict[str, float] = {}  # noqa: RUF012 - a default of a tuple, never changed


class Record(NamedTuple):
    """One request: what was sent, what came back, and when."""

    number: int
    due: float
    late: float  # of the generator, in seconds
    seconds: float  # from when it was due
    user: str
    seen: Seen

    @property
    def outcome(self) -> str:
        return self.seen.outcome


@dataclass
class Judge:
    """Reads answers and compares each with its oracle.

    Attributes:
        is_plain: the answers are those of the plain build: items only.
        checks_scores: whether every score is compared; off when histories are altered on purpose.
        keeps_scores: whether scores are kept in the records.
    """

    world: World
    is_plain: bool = False
    checks_scores: bool = True
    keeps_scores: bool = False
    seen: dict[int, Seen] = field(default_factory=dict)

    def read(self, number: int, answer: bytes, head_end: int) -> str:
        """Note what an answer contains; returns its outcome."""
        asked = self.world.asked[number % len(self.world.asked)]
        try:
            found = self._seen(asked, answer, head_end)
        except (ValueError, KeyError, TypeError) as error:  # ValidationError is a ValueError
            first = error.errors()[0] if isinstance(error, ValidationError) else error
            found = Seen(_WRONG, problem=f"V3: {type(error).__name__} {first}"[:300])
        self.seen[number] = found
        return found.outcome

    def _seen(self, asked: Asked, answer: bytes, head_end: int) -> Seen:
        status = answer[9:12].decode()
        headers = _headers(answer[:head_end])
        body = answer[head_end + 4 :]
        if self.is_plain:
            return self._plain(asked, status, body)
        if status in _OF_PROXY and "x-request-id" not in headers:
            return Seen(status)
        if headers.get("x-request-id") != asked.request_id:
            return Seen(_WRONG, problem=f"V4: the answer to {headers.get('x-request-id')} reached {asked.request_id}")
        if status != "200":
            said = ErrorResponse.model_validate_json(body).error
            wrong = said.request_id != asked.request_id
            return Seen(status, (said.code,), problem="V4: another caller's error" if wrong else "")
        return self._ranking(asked, headers, body)

    def _plain(self, asked: Asked, status: str, body: bytes) -> Seen:
        if status != "200":
            return Seen(status)
        scores = {one["item_id"]: one["score"] for one in orjson.loads(body)["items"]}
        return Seen(FULL, problem="" if set(scores) == set(asked.candidates) else "V3: other items")

    def _ranking(self, asked: Asked, headers: dict[str, str], body: bytes) -> Seen:
        said = orjson.loads(body)
        RankResponse.model_validate_json(body)
        reasons = tuple(said["degraded"])
        seen = Seen(
            DEGRADED if reasons else FULL, reasons, _variant(headers.get("x-ab-bucket", "")),
            f"{said['model']}@{said['version']}",
        )  # fmt: skip
        items = [one["item_id"] for one in said["items"]]
        if len(items) != len(set(items)) or set(items) != set(asked.candidates):
            return seen._replace(outcome=_WRONG, problem="V4: the items are not the candidates")
        if headers.get("x-model") != seen.version or said["request_id"] != asked.request_id:
            return seen._replace(outcome=_WRONG, problem="V4: headers and body differ")
        problem = self._scores(asked, seen, [(one["item_id"], one["score"]) for one in said["items"]])
        scores = {one["item_id"]: one["score"] for one in said["items"]} if self.keeps_scores else {}
        return seen._replace(outcome=_WRONG if problem else seen.outcome, problem=problem, scores=scores)

    def _scores(self, asked: Asked, seen: Seen, scores: list[tuple[str, float | None]]) -> str:
        if "popularity" in seen.reasons:
            return "" if all(score is None for _, score in scores) else "V3: scores without a model"
        values = [score for _, score in scores]
        if any(score is None or not math.isfinite(score) for score in values):
            return "V3: a score is missing or not finite"
        if sorted(values, reverse=True) != values:  # type: ignore[type-var]
            return "V3: not best first"
        if not self.checks_scores:
            return ""
        base = offset(*seen.version.split("@"))
        oracle = asked.cold if "store_unavailable" in seen.reasons else asked.full
        wrong = [one for one, score in scores if not is_near((score or 0) - base, oracle[one])]
        return f"V4: {len(wrong)} scores are not those of the user's history with {seen.version}" if wrong else ""


class Traffic:
    """A caller with a fixed rate, in a thread of its own, from `with` until its end.

    Args:
        port: of the service or the proxy.
        world: users, requests and their oracle.
        rate: mean requests per second; a Poisson process.
        deadline_ms: sent with every request.
        is_kept: whether connections are kept.
        seed: of the moments.
        is_plain: see `Judge`.
        checks_scores: see `Judge`.
        keeps_scores: see `Judge`.
        requests: bytes to send instead of those of the world.
        connections: maximum number of connections.
    """

    def __init__(
        self, port: int, world: World, *, rate: float, deadline_ms: int = 250, is_kept: bool = True, seed: int = 1,
        is_plain: bool = False, checks_scores: bool = True, keeps_scores: bool = False,
        requests: Sequence[bytes] | None = None, connections: int = 1_000,
    ) -> None:  # fmt: skip
        self.rate, self.deadline_ms = rate, deadline_ms
        self.judge = Judge(world, is_plain, checks_scores, keeps_scores)
        self.marks: list[tuple[str, float]] = []
        self.records: list[Record] = []
        self._told = threading.Event()
        self._offered = Offered()
        sent = requests or [asked.bytes(deadline_ms) for asked in world.asked]

        def call() -> None:
            with short_turns():  # the row has work of its own in this process
                self._offered = offer(
                    ("127.0.0.1", port), sent, [Phase(rate, _LONGEST_SECONDS)], random.Random(seed),
                    connections=connections, is_kept=is_kept, read_answer=self.judge.read, told=self._told,
                )  # fmt: skip

        self._thread = threading.Thread(target=call)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    @property
    def thread(self) -> int:
        """The kernel's number of the thread."""
        assert self._thread.native_id is not None
        return self._thread.native_id

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._told.set()
        self._thread.join()
        world = self.judge.world.asked
        for one in self._offered.answers:
            seen = self.judge.seen.get(one.number, Seen(one.outcome))
            asked = world[one.number % len(world)]
            self.records.append(Record(one.number, one.due, one.late, one.seconds, asked.user, seen))

    def mark(self, name: str, seconds: float = 0.0) -> None:
        """Start a phase; wait for so long if it has a fixed length."""
        self.marks.append((name, time.perf_counter()))
        time.sleep(seconds)

    def phase(self, name: str) -> list[Record]:
        """Return the records of requests due in all phases of a name."""
        starts = [moment for _, moment in self.marks]
        spans = [
            (moment, following)
            for (mark, moment), following in zip(self.marks, [*starts[1:], math.inf], strict=True)
            if mark == name
        ]
        return [one for one in self.records if any(begin <= one.due < end for begin, end in spans)]

    def began(self, name: str) -> float:
        """Return when a phase began the first time."""
        return next(moment for mark, moment in self.marks if mark == name)

    def counts(self) -> Counter[str]:
        return Counter(one.outcome for one in self.records)


def answered(records: Sequence[Record]) -> list[Record]:
    return [one for one in records if one.outcome in (FULL, DEGRADED)]


def p99_ms(records: Sequence[Record]) -> float:
    """Return the 99th percentile from when requests were due."""
    return 1_000 * percentile([one.seconds for one in records], 0.99)


def good_share(records: Sequence[Record], deadline_ms: float, *, outcomes: Sequence[str] = (FULL,)) -> float:
    """Return the share of requests that were answered well within the deadline."""
    good = sum(one.outcome in outcomes and one.seconds <= deadline_ms / 1_000 for one in records)
    return good / len(records) if records else math.nan


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _variant(bucket: str) -> str:
    """Return the arm of an X-AB-Bucket, without its bucket and reason."""
    return bucket.partition(";")[0]
