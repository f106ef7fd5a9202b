from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from service.seed import SeedError, load, main, read_lines

HEADER = "user_id,item_id,ts,action,play_ms,value\n"


class Service(ThreadingHTTPServer):
    """A service that takes behaviours, and refuses what the test tells it to refuse first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.batches: list[list[dict[str, Any]]] = []
        self.refusals: list[tuple[int, dict[str, str], bytes]] = []
        self.answer: dict[str, object] | None = None
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


def test_all_fields_are_sent_as_they_stand_and_empty_ones_left_out(service: Service, file: Path) -> None:
    write(file, "u1,i1,1000,rate,250,4.5", "用户,i2,2000,,,", '"a,b",i3,3000,click,0,0')
    counts, problems = load(file, service.url, connections=1)
    assert service.behaviours == [
        {"user_id": "u1", "item_id": "i1", "ts": 1000, "action": "rate", "play_ms": 250, "value": 4.5},
        {"user_id": "用户", "item_id": "i2", "ts": 2000},
        {"user_id": "a,b", "item_id": "i3", "ts": 3000, "action": "click", "play_ms": 0, "value": 0.0},
    ]
    assert counts == {"read": 3, "stored": 3}
    assert problems == []


def test_file_is_sent_in_batches_and_each_user_in_the_order_of_the_file(service: Service, file: Path) -> None:
    write(file, *(f"user-{place % 7},item-{place},{place},click,," for place in range(1000)))
    counts, _ = load(file, service.url, connections=3, batch=50)
    assert counts["stored"] == 1000
    assert max(map(len, service.batches)) == 50
    for user in range(7):
        times = [one["ts"] for one in service.behaviours if one["user_id"] == f"user-{user}"]
        assert times == sorted(times)


def test_columns_may_stand_in_any_order_and_the_optional_ones_be_absent(service: Service, file: Path) -> None:
    file.write_text("ts,item_id,user_id\n5,i,u\n", encoding="utf-8")
    load(file, service.url)
    assert service.behaviours == [{"user_id": "u", "item_id": "i", "ts": 5}]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (",i,1,,,", "user_id is empty"),
        ("u,,1,,,", "item_id is empty"),
        ("u,i,,,,", "ts is empty"),
        ("u,i,1.5,,,", "ts is no whole number of 0-253402300799999"),
        ("u,i,-1,,,", "ts is no whole number of 0-253402300799999"),
        ("u,i,253402300800000,,,", "ts is no whole number of 0-253402300799999"),
        ("u,i,²,,,", "ts is no whole number of 0-253402300799999"),
        ("u,i,1,view,,", "action is unknown: view"),
        ("u,i,1,click,4294967296,", "play_ms is no whole number of 0-4294967295"),
        ("u,i,1,click,,nan", "value is no number of 0-25.5"),
        ("u,i,1,click,,26", "value is no number of 0-25.5"),
        ("u" * 129 + ",i,1,,,", "user_id is longer than 128 bytes"),
        ("u,i,1", "as many fields as the header has are needed"),
        ("u,i,1,click,,,,", "as many fields as the header has are needed"),
    ],
)
def test_line_that_cannot_be_sent_is_named_and_skipped(service: Service, file: Path, line: str, problem: str) -> None:
    write(file, "u,i,1,click,,", line, "u,i,2,click,,")
    counts, problems = load(file, service.url)
    assert counts == {"read": 3, "stored": 2, "invalid": 1}
    assert problems == [f"{file}:3: {problem}"]
    assert len(service.behaviours) == 2


def test_only_the_first_problems_are_told(service: Service, file: Path) -> None:
    counts, problems = load(write(file, *["bad,line,x,,,"] * 50), service.url)
    assert (counts["invalid"], len(problems)) == (50, 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"user,item\n", "line 1: no column user_id, item_id, ts"),
        (b"", "line 1: no column user_id, item_id, ts"),
        (b"user_id,item_id,ts\n\xff,i,1\n", "not CSV in UTF-8"),
    ],
)
def test_file_that_is_no_behaviours_file_is_refused(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(SeedError, match=message):
        list(read_lines(file))


def test_missing_file_is_an_error_that_names_it(file: Path) -> None:
    with pytest.raises(SeedError, match="No such file"):
        list(read_lines(file))


def test_service_that_is_busy_or_hangs_up_is_asked_again(service: Service, file: Path) -> None:
    service.refusals = [(429, {"Retry-After": "0"}, b""), (503, {"Retry-After": "0"}, b""), (0, {}, b"")]
    counts, _ = load(write(file, "u,i,1,click,,"), service.url)
    assert counts["stored"] == 1


def test_refusal_that_waiting_cannot_mend_stops_the_load_and_is_told(service: Service, file: Path) -> None:
    service.refusals = [(422, {}, b'{"error": {"code": "invalid_request", "message": "ts: too large"}}')] * 9
    write(file, *(f"u{place},i,1,click,," for place in range(2000)))
    with pytest.raises(SeedError, match="422 ts: too large"):
        load(file, service.url, batch=10)
    assert len(service.refusals) >= 5


def test_address_where_nobody_listens_is_an_error(
    service: Service, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.seed.time.sleep", lambda _: None)
    with pytest.raises(SeedError, match="ConnectionRefusedError"):
        load(write(file, "u,i,1,click,,"), "http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "redis://h", ""])
def test_address_that_is_no_http_address_is_refused(file: Path, url: str) -> None:
    with pytest.raises(SeedError, match="not an http address"):
        load(write(file, "u,i,1,click,,"), url)


def test_answer_that_is_no_json_object_is_an_error(service: Service, file: Path) -> None:
    service.refusals = [(200, {}, b"<html>")]
    with pytest.raises(SeedError, match="is this the service"):
        load(write(file, "u,i,1,click,,"), service.url)


def test_command_tells_counts_and_fails_where_something_was_left_out(
    service: Service, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write(file, "u,i,1,click,,")), "--url", service.url]) == 0
    assert capsys.readouterr().out.startswith("1 read, 1 stored, 0 repeated, 0 refused, 0 invalid in ")
    assert main([str(write(file, "u,i,x,click,,")), "--url", service.url]) == 1
    assert f"{file}:2: ts is no whole number" in capsys.readouterr().err
    service.answer = {"stored": 0, "repeated": 0, "refused": 1}
    assert main([str(write(file, "u,i,1,click,,")), "--url", service.url]) == 1
    assert main([str(file.with_name("absent.csv"))]) == 1
    assert "No such file" in capsys.readouterr().err
