"""A thousand requests, good and bad, get the answers that were recorded: byte for byte, with the access lines.

For each case, `corpus/answers/*.jsonl` has the bytes of one connection, the answers, whether the connection stayed
open, and the access lines. Parts that differ between runs are replaced: request ids that the service makes, times,
and the digest of the experiment file, whose dates move.

A changed answer breaks a promise to callers. If the change is wanted, write an ADR, then record again:

    python -m tests.e2e.corpus.record
    git diff --word-diff tests/e2e/corpus/answers

New cases go into the modules next to the answers; recording must then change no other line.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.corpus import record, states
from tests.e2e.corpus.case import Case
from tests.e2e.corpus.recorded import recorded
from tests.e2e.corpus.replay import Replay, Result, in_pieces
from tests.e2e.corpus.rig import Rig, running

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

GROUPS = tuple(record.GROUPS)
_SHOWN = 8
_STATUSES = {str(status) for status in (100, 200, 202, 204, 400, 404, 405, 413, 415, 422, 429, 431, 501, 503)}
_REASONS = {
    "split", "override", "holdout", "unallocated", "inactive", "not_targeted", "no_unit", "not_ranked", "error",
}  # fmt: skip


class Ready(NamedTuple):
    """A service that has answered all cases."""

    rig: Rig
    results: dict[str, Result]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    cases = [Case.of(line) for group in GROUPS for line in recorded(group).values()]
    with running(tmp_path_factory.mktemp("corpus")) as rig:
        yield Ready(rig, Replay(rig).all(cases))


@pytest.mark.parametrize("group", GROUPS)
def test_answers_are_as_recorded(ready: Ready, group: str) -> None:
    expected = recorded(group)
    _compare(expected, {name: ready.results[name] for name in expected})


@pytest.mark.parametrize("group", ["rankings", "bodies", "connections"])
def test_answers_are_the_same_however_the_bytes_arrive(ready: Ready, group: str) -> None:
    """An explained ranking is left out, because it tells whether the user's state was in the cache."""
    expected = {name: line for name, line in recorded(group).items() if '"explain":true' not in str(line["send"])}
    replay = Replay(ready.rig, in_pieces(seed=1))
    results = {name: replay.run(Case.of(line)) for name, line in expected.items()}
    _compare({name: _without_log(line) for name, line in expected.items()}, results)


def test_answers_of_a_service_in_trouble_are_as_recorded(tmp_path: Path) -> None:
    expected = recorded("states")
    cases = {
        state: [Case.of(line) for name, line in expected.items() if name.startswith(f"{state}: ")]
        for state in states.STATES
    }
    found = states.replay(tmp_path, cases.__getitem__)
    _compare(expected, {name: result for name, (_, result) in found.items()})


def test_every_case_is_recorded() -> None:
    for group, module in record.GROUPS.items():
        assert [Case.of(line) for line in recorded(group).values()] == list(module.cases()), "record again"
    assert [Case.of(line) for line in recorded("states").values()] == [
        case for state in states.STATES for case in states.cases(state)
    ], "record again"


def test_the_corpus_has_every_kind_of_answer() -> None:
    answers = "\n".join(
        answer for group in (*GROUPS, "states") for line in recorded(group).values() for answer in line["answers"]
    )
    assert set(re.findall(r"(?m)^HTTP/1.1 ([0-9]{3}) ", answers)) >= _STATUSES
    assert set(re.findall(r"[^_a-z]r=([a-z_]+)", answers)) == _REASONS
    for reason in ("store_unavailable", "behaviours_corrupt", "history_unknown"):
        assert f'"degraded":["{reason}"]' in answers


def _without_log(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "log"}


def _compare(expected: Mapping[str, dict[str, Any]], found: Mapping[str, Result]) -> None:
    """Fail with the first differences."""
    assert expected.keys() == found.keys()
    shown = []
    for name, line in expected.items():
        wanted = {key: value for key, value in line.items() if key in {"answers", "kept", "log"}}
        if wanted != found[name]:
            lines = difflib.unified_diff(_lines(wanted), _lines(found[name]), "recorded", "now", lineterm="")
            shown.append("\n".join([f"{name}: {str(line['send'])[:300]}", *lines]))
    if shown:
        pytest.fail("\n\n".join([f"{len(shown)} of {len(expected)} cases differ", *shown[:_SHOWN]]), pytrace=False)


def _lines(result: Mapping[str, Any]) -> list[str]:
    answers = [line for answer in result["answers"] for line in answer.split("\r\n")]
    return [*answers, f"kept: {result['kept']}", *[json.dumps(entry) for entry in result.get("log", [])]]
