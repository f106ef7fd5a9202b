from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from contract.behaviours.file import SkippedLines
from service.seed.__main__ import main
from service.seed.lines import SeedError, read_lines
from service.seed.load import load

TS = 1_700_000_000_000
HEADER = "user_id,item_id,ts,action,play_ms,value\n"


class Service(ThreadingHTTPServer):
    """A service that takes behaviours, and refuses what the test tells it to refuse first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.batches: list[list[dict[str, Any]]] = []
        self.refusals: list[tuple[int, dict[str, str], bytes]] = []
        self.answer: dict[str, object] | None = None
        self.authorizations: set[str | None] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def behaviours(self) -> list[dict[str, Any]]:
        return [behaviour for batch in self.batches for behaviour in batch]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        service = cast(Service, self.server)
        batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["behaviours"]
        service.authorizations.add(self.headers["Authorization"])
        with service.lock:
            if service.refusals:
                status, headers, content = service.refusals.pop(0)
            else:
                service.batches.append(batch)
                answer = service.answer or {"stored": len(batch), "repeated": 0, "refused": 0, "refusals": []}
                status, headers, content = 200, {}, json.dumps(answer).encode()
        if status == 0:  # hang up without a word
            self.close_connection = True
            return
        self.send_response(200 if self.path == "/behaviours" and status == 200 else status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "behaviours.csv"


def write(file: Path, *lines: str) -> Path:
    file.write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def test_all_fields_are_sent_and_empty_ones_left_out(service: Service, file: Path) -> None:
    write(file, f"u1,i1,{TS},rate,250,4.5", f"用户,i2,{TS + 1},,,", f'"a,b",i3,{TS + 2},click,0,0')
    counts, refused = load(file, service.url, connections=1)
    assert service.behaviours == [
        {"user_id": "u1", "item_id": "i1", "ts": TS, "action": "rate", "play_ms": 250, "value": 4.5},
        {"user_id": "用户", "item_id": "i2", "ts": TS + 1, "action": "click"},
        {"user_id": "a,b", "item_id": "i3", "ts": TS + 2, "action": "click"},
    ]
    assert counts == {"read": 3, "stored": 3}
    assert refused == []


def test_file_is_sent_in_batches_and_each_user_in_the_order_of_the_file(service: Service, file: Path) -> None:
    write(file, *(f"user-{place % 7},item-{place},{TS + place},click,," for place in range(1000)))
    counts, _ = load(file, service.url, connections=3, batch=50)
    assert counts["stored"] == 1000
    assert max(map(len, service.batches)) == 50
    for user in range(7):
        times = [one["ts"] for one in service.behaviours if one["user_id"] == f"user-{user}"]
        assert times == sorted(times)


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeffts,item_id,user_id\n{TS},i,u\n",
        f"user,item,ts\nu,i,{TS}.0\n",
        f"user, item, timestamp, rating\nu, i, {TS // 1000},\n",
    ],
)
def test_every_spelling_that_prepare_reads_is_sent(service: Service, file: Path, content: str) -> None:
    file.write_text(content, encoding="utf-8")
    load(file, service.url)
    packed = file.with_name("behaviours.CSV.gz")
    packed.write_bytes(gzip.compress(content.encode()))
    load(packed, service.url)
    assert service.behaviours == [{"user_id": "u", "item_id": "i", "ts": TS, "action": "click"}] * 2


def test_a_bad_line_is_named_and_nothing_is_sent(service: Service, file: Path) -> None:
    write(file, *[f"u{place},i,{TS},click,," for place in range(3_000)], f"u,i,{TS // 1000},click,,")
    with pytest.raises(SeedError, match=r"line 3002, column ts: '1700000000' is before 1971.*--skip-bad-lines"):
        load(file, service.url, batch=10)
    assert service.batches == []


def test_bad_lines_are_skipped_counted_and_listed_if_that_is_wanted(service: Service, file: Path) -> None:
    write(file, f"u,i,{TS},click,,", "u,i,x,click,,", f"u,i,{TS},click", f"u,i,{TS + 2},click,,")
    skipped = SkippedLines(file)
    counts, _ = load(file, service.url, skipped=skipped)
    assert counts == {"read": 4, "stored": 2, "skipped": 2}
    assert skipped.told() == [
        f"skipped: {file}, line 3, column ts: 'x' is not a number from 0 to 253402300799999",
        f"skipped: {file}, line 4, column play_ms: missing: the line has 4 of 6 columns",
    ]
    assert len(service.behaviours) == 2


def test_what_the_service_refuses_is_named_by_line_and_reason(service: Service, file: Path) -> None:
    write(file, *(f"u{place},i,{TS},click,," for place in range(25)))
    service.answer = {
        "stored": 8, "repeated": 0, "refused": 2,
        "refusals": [{"index": 1, "reason": "future"}, {"index": 4, "reason": "wrong_type"}],
    }  # fmt: skip
    counts, refused = load(file, service.url, connections=1, batch=10)
    assert counts["refused"] == 6
    future, wrong_type = (
        "the time is too far ahead of the service's clock",
        "the user's key in Redis has another type",
    )
    assert refused == [
        f"refused: {file}, line {line}: {reason}"
        for line, reason in (
            (3, future),
            (6, wrong_type),
            (13, future),
            (16, wrong_type),
            (23, future),
            (26, wrong_type),
        )
    ]


def test_a_batch_that_is_too_large_for_the_service_is_halved(service: Service, file: Path) -> None:
    write(file, *(f"u,i{place},{TS + place},click,," for place in range(10)))
    service.refusals = [(413, {}, b'{"error": {"code": "too_large", "message": "must have at most 5 elements"}}')]
    counts, _ = load(file, service.url, connections=1)
    assert counts["stored"] == 10
    assert [len(batch) for batch in service.batches] == [5, 5]
    assert [one["item_id"] for one in service.behaviours] == [f"i{place}" for place in range(10)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"user,item\n", r"line 1: column timestamp \(seconds\) or ts \(milliseconds\) is missing"),
        (b"", r"line 1: column user \(or user_id\) is missing; the header has: nothing"),
        (b"user_id,item_id,ts\n\xff,i,1\n", "line 2: not UTF-8 text"),
    ],
)
def test_file_that_is_no_behaviours_file_is_refused(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SeedError, match=message):
        list(read_lines(file))


def test_missing_file_is_an_error_that_names_it(file: Path) -> None:
    with pytest.raises(SeedError, match="no such file"):
        list(read_lines(file))


def test_service_that_is_busy_or_hangs_up_is_asked_again(service: Service, file: Path) -> None:
    service.refusals = [(429, {"Retry-After": "0"}, b""), (503, {"Retry-After": "0"}, b""), (0, {}, b"")]
    counts, _ = load(write(file, f"u,i,{TS},click,,"), service.url)
    assert counts["stored"] == 1


def test_refusal_that_waiting_cannot_mend_stops_the_load_and_names_the_line(service: Service, file: Path) -> None:
    error = {"code": "invalid_request", "message": "must be an integer", "field": "behaviours.3.ts"}
    service.refusals = [(422, {}, json.dumps({"error": error}).encode())] * 9
    write(file, *(f"u{place},i,{TS},click,," for place in range(2000)))
    with pytest.raises(SeedError, match=r"422 .*behaviours.csv, line \d+: behaviours.3.ts must be an integer"):
        load(file, service.url, batch=10)
    assert len(service.refusals) >= 5


def test_address_where_nobody_listens_is_an_error(
    service: Service, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.seed.sender.time.sleep", lambda _: None)
    with pytest.raises(SeedError, match="ConnectionRefusedError"):
        load(write(file, f"u,i,{TS},click,,"), "http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "redis://h", ""])
def test_address_that_is_no_http_address_is_refused(file: Path, url: str) -> None:
    with pytest.raises(SeedError, match="not an http address"):
        load(write(file, f"u,i,{TS},click,,"), url)


def test_answer_that_is_no_json_object_is_an_error(service: Service, file: Path) -> None:
    service.refusals = [(200, {}, b"<html>")]
    with pytest.raises(SeedError, match="is this the service"):
        load(write(file, f"u,i,{TS},click,,"), service.url)


def test_command_tells_counts_and_fails_if_the_service_refused_something(
    service: Service, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = f"u,i,{TS},click,,"
    assert main([str(write(file, good)), "--url", service.url]) == 0
    assert capsys.readouterr().out.startswith("1 read, 1 stored, 0 repeated, 0 refused, 0 skipped in ")
    assert main([str(write(file, good, "u,i,x,click,,")), "--url", service.url]) == 1
    assert capsys.readouterr().err.startswith(f"error: {file}, line 3, column ts: 'x' is not a number")
    assert main([str(file), "--url", service.url, "--skip-bad-lines"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("2 read, 1 stored, 0 repeated, 0 refused, 1 skipped in ")
    assert told.err.startswith(f"skipped: {file}, line 3, column ts")
    service.answer = {"stored": 0, "repeated": 0, "refused": 1, "refusals": [{"index": 0, "reason": "future"}]}
    assert main([str(write(file, good)), "--url", service.url]) == 1
    assert f"refused: {file}, line 2: the time is too far ahead" in capsys.readouterr().err
    service.answer = {"stored": 0, "repeated": 0, "refused": 438}
    assert main([str(write(file, good)), "--url", service.url]) == 1
    assert "refused: 438 more" in capsys.readouterr().err
    assert main([str(file.with_name("absent.csv"))]) == 1
    assert "no such file" in capsys.readouterr().err


def test_a_key_from_a_file_goes_with_every_request_and_into_no_message(
    service: Service, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = file.with_name("key")
    key.write_text("rk_secret\n")
    assert main([str(write(file, f"u,i,{TS},click,,")), "--url", service.url, "--key-file", str(key)]) == 0
    assert service.authorizations == {"Bearer rk_secret"}
    service.refusals.append((401, {}, b'{"error": {"code": "unauthorized", "message": "The API key is not known."}}'))
    assert main([str(write(file, f"u,i,{TS},click,,")), "--url", service.url, "--key-file", str(key)]) == 1
    assert (
        main([str(write(file, f"u,i,{TS},click,,")), "--url", service.url, "--key-file", str(key.with_name("none"))])
        == 1
    )
    told = capsys.readouterr().err
    assert "401 The API key is not known." in told
    assert "error: --key-file: the file cannot be read" in told
    assert "rk_" not in told
