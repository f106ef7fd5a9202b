"""Lines leave in order and whole, or are dropped and counted, however their reader behaves."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from service.output.line_writer import LineWriter
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[4]


class Pipe:
    """A small pipe; the test decides when someone reads it."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4096)
        self._parts: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)

    def start_reader(self) -> None:
        self._reader.start()

    def lines(self) -> list[bytes]:
        """Close the pipe's own end, and return all lines that were written."""
        os.close(self.write_end)
        self._reader.join(20)
        text = b"".join(self._parts)
        assert text.endswith(b"\n")
        return text.splitlines()

    def _read(self) -> None:
        while part := os.read(self.read_end, 1000):
            self._parts.append(part)
        os.close(self.read_end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    return Pipe()


def numbered(number: int) -> bytes:
    return b"line %d " % number + b"x" * 80


def accounted(lines: Sequence[bytes]) -> tuple[int, int]:
    """Check that numbered lines are whole and in order, and every gap is named; return lines written and dropped."""
    following = dropped = 0
    for line in lines:
        notice = re.fullmatch(rb"log_lines_dropped count=(\d+)", line)
        if notice:
            following += int(notice[1])
            dropped += int(notice[1])
        else:
            assert line == numbered(following)
            following += 1
    return following - dropped, dropped


def test_lines_arrive_in_order_and_whole(pipe: Pipe) -> None:
    writer = LineWriter(pipe.write_end)
    pipe.start_reader()
    for number in range(2000):
        writer.put(numbered(number))
    writer.close(20)
    assert accounted(pipe.lines()) == (2000, 0)


def test_while_no_one_reads_nothing_waits_and_every_gap_is_named_where_it_is(pipe: Pipe) -> None:
    writer = LineWriter(pipe.write_end, max_bytes=100_000)
    for number in range(10_000):
        writer.put(numbered(number))
    assert 0 < writer.dropped < 10_000
    pipe.start_reader()
    wait_until(lambda: not writer._lines)
    for number in range(10_000, 20_000):
        writer.put(numbered(number))
    writer.close(20)
    lines = pipe.lines()
    assert accounted(lines) == (20_000 - writer.dropped, writer.dropped)
    assert sum(line.startswith(b"log_lines_dropped") for line in lines) >= 1


def test_the_last_gap_is_named_when_the_reader_is_back_even_if_no_line_follows(pipe: Pipe) -> None:
    writer = LineWriter(pipe.write_end, max_bytes=10_000)
    for number in range(1000):
        writer.put(numbered(number))
    pipe.start_reader()
    wait_until(lambda: not writer._gap)
    writer.close(20)
    assert accounted(pipe.lines()) == (1000 - writer.dropped, writer.dropped)


def test_a_pipe_that_does_not_block_is_written_all_the_same(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_end, False)
    writer = LineWriter(pipe.write_end)
    for number in range(1000):
        writer.put(numbered(number))
    pipe.start_reader()
    writer.close(20)
    assert accounted(pipe.lines()) == (1000, 0)


@pytest.mark.parametrize("fault", ["closed pipe", "full disk"])
def test_what_takes_nothing_costs_no_error_and_no_wait_at_the_end(pipe: Pipe, fault: str) -> None:
    if fault == "closed pipe":
        os.close(pipe.read_end)
    descriptor = pipe.write_end if fault == "closed pipe" else os.open("/dev/full", os.O_WRONLY)
    writer = LineWriter(descriptor, max_bytes=10_000)
    for number in range(1000):
        writer.put(numbered(number))
    assert writer.dropped > 0
    writer.close(20)
    assert not writer._thread.is_alive()
    os.close(descriptor)


def test_closing_does_not_wait_longer_than_it_may_for_a_reader_that_has_stopped(pipe: Pipe) -> None:
    writer = LineWriter(pipe.write_end)
    for number in range(1000):
        writer.put(numbered(number))
    writer.close(0.01)
    assert writer._thread.is_alive()  # it waits in the pipe, and keeps no one
    pipe.start_reader()
    writer._thread.join(20)
    pipe.lines()


def test_a_full_disk_tears_no_line_and_the_rest_follows_when_there_is_room(tmp_path: Path) -> None:
    """The limit of a file's size is met in the middle of a line, as a full disk is: a short write, then errors."""
    script = """if True:
        import os, resource, sys, time
        from service.output.line_writer import LineWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_003, resource.RLIM_INFINITY))
        descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        writer = LineWriter(descriptor)
        for number in range(1000):
            writer.put(b"line %d " % number + b"x" * 80)
        while os.fstat(descriptor).st_size < 5_003:
            time.sleep(0.001)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        time.sleep(0.02)  # the writer tries again
        while writer._lines:
            time.sleep(0.001)
        writer.close(20)
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "log")], cwd=ROOT, check=True, timeout=60)
    assert accounted((tmp_path / "log").read_bytes().splitlines()) == (1000, 0)


def test_threads_do_not_mix_their_lines(pipe: Pipe) -> None:
    writer = LineWriter(pipe.write_end)
    pipe.start_reader()

    def work(name: str) -> None:
        for number in range(500):
            writer.put(f"{name} {number} {name * 50}".encode())

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(20)
    lines = pipe.lines()
    for name in "abcd":
        own = [line for line in lines if line.startswith(name.encode())]
        assert own == [f"{name} {number} {name * 50}".encode() for number in range(500)]
    assert len(lines) == 2000


def test_a_line_put_while_a_line_is_put_does_not_lock_the_writer(pipe: Pipe) -> None:
    """The garbage collector can do this: what it destroys may log."""

    def notice(count: int) -> bytes:
        writer.put(b"from within")
        return b"notice %d" % count

    writer = LineWriter(pipe.write_end, max_bytes=10_000, notice=notice)
    writer.put(b"x" * 20_000)
    thread = threading.Thread(target=writer.put, args=(b"next",), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    pipe.start_reader()
    writer.close(20)
    assert set(pipe.lines()) == {b"from within", b"notice 1", b"next"}


def test_the_thread_outlives_its_own_faults(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LineWriter(pipe.write_end)
    take, faults = writer._take, [MemoryError()]

    def faulty() -> bytes:
        if faults:
            raise faults.pop()
        return take()

    monkeypatch.setattr(writer, "_take", faulty)
    writer.put(numbered(0))
    wait_until(lambda: not faults)
    wait_until(lambda: not writer._is_awake)
    writer.put(numbered(1))
    pipe.start_reader()
    writer.close(20)
    assert accounted(pipe.lines()) == (2, 0)
