"""Keys for the command lines that call the service."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from contract.command_line import CommandError
from service.access.keys import read_key
from service.replay.captured import read


class Answer(BaseHTTPRequestHandler):
    """Sends the caller to another host, which sends an empty list."""

    authorizations: ClassVar[dict[str, str | None]] = {}

    def do_GET(self) -> None:
        self.authorizations[self.path] = self.headers["Authorization"]
        self.send_response(302 if self.path == "/debug/slow" else 200)
        self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/elsewhere")
        self.end_headers()
        self.wfile.write(b'{"rankings": []}')

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_key_is_sent_to_the_named_address_only(port: int) -> None:
    assert read(f"http://127.0.0.1:{port}/debug/slow", "rk_secret") == []
    assert Answer.authorizations == {"/debug/slow": "Bearer rk_secret", "/elsewhere": None}


@pytest.mark.parametrize("address", ["http://me:rk_secret@127.0.0.1:1/", "http://127.0.0.1:port/"])
def test_an_address_with_a_password_or_without_a_port_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(CommandError) as refused:
        read(address)
    assert "rk_secret" not in str(refused.value)


@pytest.mark.parametrize("content", ["", "rk_secret\nrk_secret", "rk_secret\x00", "rk_secret\u00e9"])
def test_a_file_without_one_key_is_refused_and_not_shown(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content, encoding="utf-8")
    with pytest.raises(CommandError, match="--key-file: the file") as refused:
        read_key(tmp_path / "key")
    assert "secret" not in str(refused.value)


def test_the_key_of_a_file_has_no_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("rk_secret\n")
    assert read_key(tmp_path / "key") == "rk_secret"
    assert read_key(None) is None
