"""One record, one rule: what `prepare` accepts the service stores whole, and what one refuses, all refuse."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.behaviours.csv_rows import Problem
from contract.behaviours.file import BehaviourFile
from contract.behaviours.records import Records, item_keys, records_from_columns
from service.errors import InvalidRequest
from service.http import codec
from service.http.behaviour_records import records_of
from service.metrics import Metrics
from service.redis.client import make_client
from service.seed.lines import Line, read_lines
from service.seed.load import BATCH
from service.settings.limits import LimitsSettings
from service.store.behaviours import RedisBehaviourStore
from tests.support.fakes import NOW_MS, Edge
from tests.support.redis_server import RedisServer
from training.data.datasets.csv_file import load
from training.data.datasets.interactions import DataError
from training.data.prepare import Prepared, load_prepared, prepare

FIELDS = ("user_id", "item_id", "ts", "action", "play_ms", "value")
COLUMNS = ("user", "item", "ts", "action", "play_ms", "rating")
LIMITS = LimitsSettings()

ODD = st.text(alphabet=st.sampled_from("aé👩\u200d\"',;|\\{}\t \x00\x1f\x7f\x85\xa0\u2028\u3000\ufeff\r\n"), max_size=5)
IDS = st.sampled_from(["u1", "u2", "i1", "i 2", "é" * 64, "é" * 65, "x" * 128, "x" * 129]) | ODD
TIMES = st.sampled_from(
    [NOW_MS - 1, NOW_MS - 60_000, 31_536_000_000, 31_535_999_999, NOW_MS // 1000, 0, -1, 10**15, 10**16]
) | st.integers(NOW_MS - 10**9, NOW_MS)  # fmt: skip
ACTIONS = st.sampled_from(["", "click", "rate", "play", "impression", "dislike", "view", "Click"])
PLAYS = st.sampled_from(["", "0", "7", "4294967295", "4294967296", "-1", "x"])
VALUES = st.sampled_from(["", "0", "4.5", "4.25", "25.5", "25.6", "nan", "1_0", "-0.1"])
CELLS = (IDS, IDS, TIMES.map(str) | st.just(f"{NOW_MS}.0"), ACTIONS, PLAYS, VALUES)
ROWS = st.tuples(*CELLS)
SOUND = st.tuples(
    st.sampled_from(["u1", "u2", 'a,"b', "é" * 64, "👩\u200d👩", "\ufeffu"]),
    st.sampled_from(["i1", "i 2", "'", '"', "x" * 128, "\\", "#1", "NULL"]),
    st.integers(NOW_MS - 3, NOW_MS).map(str) | st.just(f"{NOW_MS}.0"),
    st.sampled_from(["", "click", "rate", "impression"]),
    st.sampled_from(["", "0", "7", "4294967295", "90.5"]),
    st.sampled_from(["", "0", "4.5", "4.25", "4.2", "25.5", "0.04"]),
)
GOOD = ("u1", "i1", str(NOW_MS - 5), "rate", "7", "4.5")


def written(rows: Sequence[Sequence[str]], blank: str = "") -> str:
    """Return a CSV file of these rows, as a careful writer makes it, perhaps with blanks after the commas."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([row[0], *(f"{blank}{cell}" if cell.isalnum() else cell for cell in row[1:])] for row in rows)
    return text.getvalue()


def document(row: Sequence[str]) -> dict[str, Any]:
    """Return the row as a caller would send it."""
    user, item, ts, action, play_ms, value = row
    sent: dict[str, Any] = {"user_id": user.strip(" \t"), "item_id": item.strip(" \t"), "ts": _number(ts)}
    given = {"action": action, "play_ms": _number(play_ms), "value": _number(value)}
    return sent | {name: cell for name, cell in given.items() if cell != ""}


def _number(text: str) -> int | float | str:
    try:
        return int(text) if "_" not in text else text
    except ValueError:
        pass
    try:
        number = float(text) if "_" not in text and text != "nan" else text
    except ValueError:
        return text
    return int(number) if isinstance(number, float) and number.is_integer() else number


@given(st.integers(0, 5).flatmap(lambda place: st.tuples(st.just(place), CELLS[place])), st.sampled_from(["", " "]))
def test_file_and_wire_refuse_the_same_cells_and_name_them_alike(odd: tuple[int, str], blank: str) -> None:
    place, cell = odd
    row = [*GOOD[:place], cell, *GOOD[place + 1 :]]
    records, problems = read([row], blank)
    body = json.dumps({"behaviours": [document(row)]}).encode()
    if len(records):
        assert records.tobytes() == records_of(codec.parse_behaviours(body, LIMITS)).tobytes()
        return
    with pytest.raises(InvalidRequest) as refused:
        codec.parse_behaviours(body, LIMITS)
    assert refused.value.field == f"behaviours.0.{FIELDS[place]}"
    assert problems[0].line == 2
    assert problems[0].column in {COLUMNS[place], ""}  # "": the line as a whole, as for a bare carriage return


def read(rows: Sequence[Sequence[str]], blank: str) -> tuple[Records, list[Problem]]:
    """Return the records of a file of these rows, and what is wrong with the others."""
    problems: list[Problem] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.csv"
        path.write_text(written(rows, blank), encoding="utf-8", newline="")
        chunks = list(BehaviourFile(path, NOW_MS + 300_000, problems.append).chunks())
    records = [
        records_from_columns(item_keys(one.items), one.times_ms, one.actions, one.plays_ms.astype(int), one.values / 10)
        for one in chunks
    ]
    return np.concatenate(records), problems


def prepared_of(rows: Sequence[Sequence[str]], folder: Path) -> Prepared | None:
    """Prepare a file of these rows; None if no row is good."""
    (folder / "clicks.csv").write_text(written(rows), encoding="utf-8", newline="")
    try:
        prepare(load(folder / "clicks.csv", lambda _: None), folder / "clicks", core=1)
    except DataError as error:
        if "no interactions in it" in str(error) or "no user and item has" in str(error):
            return None
        raise
    return load_prepared(folder / "clicks")


def trained_on(prepared: Prepared) -> dict[str, Records]:
    """Return the records that training read, user by user."""
    columns = prepared.columns
    records = records_from_columns(
        item_keys([prepared.items.ids[index - 1] for index in columns["items"]]),
        columns["times_ms"], columns["actions"].astype(np.uint8), columns["plays"], columns["values"] / 10,
    )  # fmt: skip
    starts = prepared.user_starts
    return {user: records[starts[place] : starts[place + 1]] for place, user in enumerate(prepared.users.ids)}


async def send(lines: Sequence[Line], store: RedisBehaviourStore) -> list[dict[str, Any]]:
    """Send what `seed` reads through the real routes and the real store."""
    edge = Edge()
    assert edge.runtime.backend is not None
    edge.runtime.backend = replace(edge.runtime.backend, store=store)
    answers = []
    async with edge.client() as client:
        for start in range(0, len(lines), BATCH):
            body = {"behaviours": [line.behaviour for line in lines[start : start + BATCH]]}
            answers.append(_answer(await client.post("/behaviours", json=body)))
    return answers


def _answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def stored_whole(prepared: Prepared, url: str) -> None:
    """Load the behaviours of prepared data; every one must be stored, and read as training read it."""
    clients = [make_client(url, timeout_seconds=10) for _ in range(2)]
    store = RedisBehaviourStore(
        clients[0], clients[1], read_length=1_000, max_length=1_000, ttl_seconds=0, observer=Metrics()
    )
    try:
        lines = list(read_lines(prepared.directory / "behaviours.csv"))
        answers = await send(lines, store)
        assert {name: sum(answer[name] for answer in answers) for name in ("stored", "repeated", "refused")} == {
            "stored": len(prepared.columns["items"]), "repeated": 0, "refused": 0,
        }  # fmt: skip
        expected = trained_on(prepared)
        found = await store.read(list(expected))
        assert [stored.records.tobytes() for stored in found] == [records.tobytes() for records in expected.values()]
    finally:
        await store.close()


@pytest.mark.redis
@settings(max_examples=settings.default.max_examples // 2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(SOUND | ROWS, min_size=1, max_size=25))
def test_what_prepare_accepts_the_service_stores_whole(rows: list[tuple[str, ...]], redis_server: RedisServer) -> None:
    redis_server.call("FLUSHALL")
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepared_of([*rows, *rows[::2]], Path(folder))  # with repeats
        if prepared is not None:
            asyncio.run(stored_whole(prepared, redis_server.url))
