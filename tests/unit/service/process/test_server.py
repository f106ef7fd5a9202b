"""The port and the entry point; the drain is tested end to end, with a real process."""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from service.command_line import main
from service.errors import StartError
from service.process.port import begin_listening, listen

pytestmark = pytest.mark.usefixtures("no_settings")


def without_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the service from setting up logging, which would be that of all later tests."""
    log = SimpleNamespace(dropped=0, close=lambda: None)
    monkeypatch.setattr("service.command_line.logging_to", lambda _: nullcontext(log))


def test_a_port_that_was_just_closed_can_be_had_again() -> None:
    first = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    first.listen()
    with socket.create_connection(("127.0.0.1", port)):
        first.setblocking(True)
        accepted, _ = first.accept()
        accepted.close()
    first.close()
    listen("127.0.0.1", port).close()


def test_a_port_that_is_taken_is_an_error_and_leaves_no_socket_open() -> None:
    first = listen("127.0.0.1", 0)
    first.listen()
    with pytest.raises(OSError, match="Address already in use"):
        listen("127.0.0.1", first.getsockname()[1])
    first.close()


def test_a_port_where_another_listens_by_now_is_an_error_with_its_address() -> None:
    first = listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    second = listen("127.0.0.1", port)  # neither listens yet
    begin_listening(first, 1)
    with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(Address already in use\)"):
        begin_listening(second, 1)
    first.close()
    second.close()


def test_operators_cannot_have_the_port_of_callers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_log(monkeypatch)
    for name in ("HTTP", "ADMIN"):
        monkeypatch.setenv(f"RANKER_{name}__PORT", "8000")
    assert main([]) == 1
    [said] = capsys.readouterr().err.splitlines()
    assert said == "service: RANKER_ADMIN__PORT: 8000 is the port of callers; operators need another one"


def test_an_address_that_is_none_is_an_error() -> None:
    with pytest.raises(OSError):  # noqa: PT011 - the resolver's own, whose text differs between systems
        listen("127.0.0.1.1", 0)


def test_the_settings_in_force_are_printed_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANKER_HTTP__PORT", "9000")
    monkeypatch.setenv("RANKER_EXPERIMENTS__OVERRIDE_SECRET", "hunter2" * 5)
    assert main(["--check-settings"]) == 0
    out = capsys.readouterr().out
    assert "RANKER_HTTP__PORT=9000\n" in out
    assert "RANKER_EXPERIMENTS__OVERRIDE_SECRET=***\n" in out
    assert "hunter2" not in out


def test_bad_settings_are_told_one_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANKER_HTTP__PROT", "9000")
    monkeypatch.setenv("RANKER_COLOUR", "blue")
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[0].startswith("service: RANKER_COLOUR: unknown setting")
    assert len(captured.err.splitlines()) == 2
    assert captured.out == ""


def test_no_bundle_is_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.setenv("RANKER_BUNDLES__ROOT", str(tmp_path))
    monkeypatch.setenv("RANKER_HTTP__PORT", "0")
    without_log(monkeypatch)
    assert main([]) == 1
    assert capsys.readouterr().err.startswith(f"service: {tmp_path} contains no bundle")
