"""The checker: the same invariants after every run of traffic (V1 to V8 and V10; V9 is over all runs together)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from benchmarks.figures import percentile
from tests.faults.snapshot import Snapshot
from tests.faults.traffic import LOST, REFUSED, Record
from tests.faults.world import MARK

ALLOWED: Final = frozenset({"full", "degraded", "429", "504"})
GRACE_MS: Final = 50  # after the deadline
_LATE_GENERATOR_MS: Final = 5.0
_MORE_THREADS: Final = 12
_MORE_DESCRIPTORS: Final = 48  # the pools of Redis connections may grow
_MORE_BYTES: Final = 64 * 2**20
_MOST_SERIES: Final = 1_500

Metric = tuple[str, Mapping[str, str]]


class Expected(NamedTuple):
    """The outcomes that a run may have.

    Attributes:
        outcomes: all others are problems.
        may_lose: requests that may be lost, for a process that is killed.
        may_refuse: requests whose connection may be refused, while no process listens.
        raises: metrics that the fault must raise.
        is_counted: whether the traffic is all that the service counts as rankings.
    """

    outcomes: frozenset[str] = ALLOWED
    may_lose: int = 0
    may_refuse: int = 0
    raises: tuple[Metric, ...] = ()
    is_counted: bool = True


AS_USUAL: Final = Expected()


def check_records(records: Sequence[Record], expected: Expected) -> list[str]:
    """V1, V3, V4: every request has one fate, an expected one, and every answer is its own."""
    counts = Counter(one.outcome for one in records)
    lost = sum(counts[one] for one in LOST)
    refused = sum(counts[one] for one in REFUSED)
    problems = [f"V1: {lost} of {len(records)} requests lost"] if lost > expected.may_lose else []
    problems += [f"V1: {refused} connections refused"] if refused > expected.may_refuse else []
    other = {one: count for one, count in counts.items() if one not in expected.outcomes | LOST | REFUSED | {"wrong"}}
    problems += [f"V1: unexpected: {other}"] if other else []
    wrong = Counter(one.seen.problem for one in records if one.seen.problem)
    return problems + [f"{text} ({count} times)" for text, count in wrong.most_common(3)]


def late(records: Sequence[Record], deadline_ms: float) -> int:
    """V5: answers later than the deadline and its grace; requests that the generator itself sent late do not count."""
    most = (deadline_ms + GRACE_MS) / 1_000
    return sum(
        one.seconds > most and one.outcome not in LOST | REFUSED and one.late < _LATE_GENERATOR_MS / 1_000
        for one in records
    )


def is_void(records: Sequence[Record]) -> bool:
    """Return whether the generator was too late for its times to count."""
    return percentile([1_000 * one.late for one in records], 0.99) > _LATE_GENERATOR_MS


def check_service(
    before: Snapshot, after: Snapshot, records: Sequence[Record], expected: Expected, others: Mapping[str, int] = {}
) -> list[str]:
    """V2, V6, V8: the service counted the same answers, is as small as before, and its metrics show the fault.

    Args:
        before: before the traffic.
        after: after it.
        records: of the traffic.
        expected: what the run may show.
        others: answers to rankings that another client got in the meantime, by status.
    """
    is_same = before.pid == after.pid
    problems = check_counts(before, after, records, others) if is_same and expected.is_counted else []
    if is_same:
        problems += check_size(before, after)
    for name, labels in expected.raises:
        if after.value(name, **labels) <= before.value(name, **labels):
            problems.append(f"V8: {name}{dict(labels) or ''} was not raised")
    return problems


def check_counts(before: Snapshot, after: Snapshot, records: Sequence[Record], others: Mapping[str, int]) -> list[str]:
    counted = after.statuses()
    counted.subtract(before.statuses())
    seen = Counter(status for one in records if (status := status_of(one)))
    seen.update(others)
    differ = {
        status: (counted[status], seen[status])
        for status in sorted(counted | seen)
        if counted[status] != seen[status] and status != "499"
    }
    return [f"V2: the service counted, and the client saw: {differ}"] if differ else []


def status_of(record: Record) -> str:
    """Return the status of an answer, "" if there was none."""
    if record.outcome in LOST | REFUSED:
        return ""
    return record.outcome if record.outcome.isdecimal() else "200"


def check_size(before: Snapshot, after: Snapshot) -> list[str]:
    grown = {
        "threads": (after.threads - before.threads, _MORE_THREADS),
        "descriptors": (after.descriptors - before.descriptors, _MORE_DESCRIPTORS),
        "bytes": (after.resident_bytes - before.resident_bytes, _MORE_BYTES),
    }
    problems = [f"V6: {more} more {name}" for name, (more, most) in grown.items() if more > most]
    return problems + ([f"V6: {len(after.samples)} series"] if len(after.samples) > _MOST_SERIES else [])


def check_log(lines: Iterable[str]) -> list[str]:
    """V7: every line is one JSON object, and none has an id."""
    broken, marked = [], []
    for line in lines:
        if MARK in line:
            marked.append(line)
        try:
            is_object = isinstance(json.loads(line), dict)
        except ValueError:
            is_object = False
        if not is_object:
            broken.append(line)
    problems = [f"V7: {len(broken)} log lines are not JSON, such as {broken[0][:120]!r}"] if broken else []
    return problems + ([f"V7: {len(marked)} log lines have an id, such as {marked[0][:200]!r}"] if marked else [])
