"""The sink against a real redis-server: nothing lost and nothing twice, wherever it or Redis stops."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb
import pytest
from redis.exceptions import ConnectionError as LostConnectionError

from analysis.sink.client import connect
from analysis.sink.events import ACTIVITY, Reader
from analysis.sink.files import Files
from analysis.sink.metrics import Metrics
from analysis.sink.settings import SinkSettings
from analysis.sink.source import RedisSource
from analysis.sink.worker import Worker
from analysis.tables.reading import rows
from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM, RANKING_STREAM
from contract.redis_url.parse import parse_redis_url
from tests.support.certificates import Authority
from tests.support.programs import needed
from tests.support.redis_server import RedisServer, free_port
from tests.support.redis_topology import cluster, watched
from tests.support.sink_process import ROOT, SinkProcess, activity, client, exposure, feed, files, ranking, written

pytestmark = pytest.mark.redis

GROUP = "ab-sink"


@pytest.fixture
def sink(tmp_path: Path, own_redis: RedisServer) -> Iterator[SinkProcess]:
    process = SinkProcess(tmp_path / "out", own_redis.url, "--batch-seconds", "0.2", "--batch-rows", "500")
    yield process
    process.close()


def source(url: str, name: str = "sink", stream: str = ACTIVITY_STREAM) -> RedisSource:
    made = RedisSource(connect(parse_redis_url(url), 5), stream, GROUP, name, trim=True)
    made.open()
    return made


def worker(
    made: RedisSource, out: Path, name: str = "sink", *, batch: int = 100, stop: threading.Event | None = None
) -> Worker:
    """Ends when the stream is empty, or if there is a `stop`, when it is set."""
    settings = SinkSettings(batch_rows=batch, batch_seconds=0.1, claim_seconds=30)
    files, metrics = Files(out, Reader(ACTIVITY), name), Metrics(["activity"])
    return Worker(made, files, "activity", settings, metrics, stop or threading.Event(), once=stop is None)


@contextmanager
def running(url: str, out: Path) -> Iterator[Worker]:
    """A worker in a thread, as in the process of the sink."""
    stop = threading.Event()
    made = worker(
        RedisSource(connect(parse_redis_url(url), 5), ACTIVITY_STREAM, GROUP, "sink", trim=True), out, stop=stop
    )
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def failures(made: Worker) -> float:
    labels = {"table": "activity", "step": "redis"}
    return made.metrics.registry.get_sample_value("ranker_sink_failures_total", labels) or 0.0


def test_everything_is_written_acknowledged_and_trimmed(sink: SinkProcess, own_redis: RedisServer) -> None:
    redis = client(own_redis)
    feed(redis, map(activity, range(1_200)))
    feed(redis, map(exposure, range(30)), EXPOSURE_STREAM)
    feed(redis, map(ranking, range(20)), RANKING_STREAM)
    sink.start()
    sink.until(lambda: written(sink.out) == (1_200, 1_200) and written(sink.out, "exposures") == (30, 30))
    sink.until(lambda: written(sink.out, "rankings") == (20, 20))
    feed(redis, map(activity, range(1_200, 1_250)))  # later events are read too
    sink.until(lambda: written(sink.out)[0] == 1_250)
    assert sink.stop() == 0
    assert redis.xlen(ACTIVITY_STREAM) == redis.xlen(EXPOSURE_STREAM) == redis.xlen(RANKING_STREAM) == 0
    assert redis.xpending(ACTIVITY_STREAM, GROUP)["pending"] == 0
    assert sink.logged("sink_stopped")[0]["rows"] == 1_300


def test_at_sigterm_the_batch_in_memory_is_written_first(tmp_path: Path, own_redis: RedisServer) -> None:
    redis = client(own_redis)
    sink = SinkProcess(tmp_path / "out", own_redis.url, "--batch-seconds", "3600").start()
    try:
        feed(redis, map(activity, range(10)))
        sink.until(lambda: [group["pending"] for group in redis.xinfo_groups(ACTIVITY_STREAM)] == [10])
        assert sink.stop() == 0
    finally:
        sink.close()
    assert written(sink.out) == (10, 10)
    assert redis.xlen(ACTIVITY_STREAM) == 0


@pytest.mark.parametrize("after", ["write", "acknowledge"])
def test_a_crash_on_either_side_of_the_acknowledgement_gives_no_second_row(
    after: str, tmp_path: Path, own_redis: RedisServer
) -> None:
    """The rows are counted without the reader's own removal of repeats."""
    redis = client(own_redis)
    feed(redis, map(activity, range(250)))
    first = source(own_redis.url)
    copy = first.acknowledge

    def lost(entries: object) -> None:
        if after == "acknowledge":
            copy(entries)  # type: ignore[arg-type]  # what `acknowledge` takes
        raise LostConnectionError("the process ends here")

    first.acknowledge = lost  # type: ignore[method-assign]  # the moment of the crash
    with pytest.raises(LostConnectionError):
        worker(first, tmp_path).run()
    assert written(tmp_path) == (100, 100)
    assert redis.xpending(ACTIVITY_STREAM, GROUP)["pending"] == (100 if after == "write" else 0)
    feed(redis, map(activity, range(250, 300)))
    worker(source(own_redis.url), tmp_path, batch=1_000).run()  # with another size of batches
    assert written(tmp_path) == (300, 300)
    assert redis.xlen(ACTIVITY_STREAM) == 0


def test_entries_are_trimmed_only_when_every_group_has_acknowledged_them(
    tmp_path: Path, own_redis: RedisServer
) -> None:
    redis = client(own_redis)
    feed(redis, map(activity, range(300)))
    redis.xgroup_create(ACTIVITY_STREAM, "other", "0")
    worker(source(own_redis.url), tmp_path).run()
    assert redis.xlen(ACTIVITY_STREAM) == 300  # the other group has read nothing
    [(_, read)] = redis.xreadgroup("other", "me", {ACTIVITY_STREAM: ">"}, count=200)
    redis.xack(ACTIVITY_STREAM, "other", *(identifier for identifier, _ in read[:50]))
    assert source(own_redis.url).trim() == 50
    redis.xack(ACTIVITY_STREAM, "other", *(identifier for identifier, _ in read[50:]))
    assert source(own_redis.url).trim() == 150
    assert redis.xlen(ACTIVITY_STREAM) == 100  # those that it has not read


def test_without_trim_the_stream_is_left_as_it_is(tmp_path: Path, own_redis: RedisServer) -> None:
    redis = client(own_redis)
    feed(redis, map(activity, range(20)))
    kept = RedisSource(connect(parse_redis_url(own_redis.url), 5), ACTIVITY_STREAM, GROUP, "sink", trim=False)
    worker(kept, tmp_path).run()
    assert (redis.xlen(ACTIVITY_STREAM), written(tmp_path)) == (20, (20, 20))


def test_a_sink_takes_over_what_another_one_read_and_never_acknowledged(tmp_path: Path, own_redis: RedisServer) -> None:
    redis = client(own_redis)
    feed(redis, map(activity, range(150)))
    gone = source(own_redis.url, "gone")
    Files(tmp_path, Reader(ACTIVITY), "gone").write(gone.read(100, 0))  # and killed before the acknowledgement
    there = source(own_redis.url, "there")
    assert there.claim(idle_seconds=3_600) == 0  # it may still be at work
    assert there.claim(idle_seconds=0) == 100
    worker(there, tmp_path, "there").run()
    assert written(tmp_path) == (150, 150)
    assert redis.xlen(ACTIVITY_STREAM) == 0


def test_two_sinks_share_a_stream(tmp_path: Path, own_redis: RedisServer) -> None:
    feed(client(own_redis), map(activity, range(400)))
    one, two = source(own_redis.url, "one"), source(own_redis.url, "two")
    for made, name in ((one, "one"), (two, "two")):
        entries = made.read(100, 0)
        Files(tmp_path, Reader(ACTIVITY), name).write(entries)
        made.acknowledge(entries)
    worker(one, tmp_path, "one").run()
    assert written(tmp_path) == (400, 400)


def test_a_second_sink_of_the_same_name_is_refused(sink: SinkProcess, own_redis: RedisServer) -> None:
    sink.start()
    sink.until(lambda: sink.logged("sink_started"))
    second = SinkProcess(sink.out, own_redis.url)
    second.log_file = sink.log_file.with_name("second.log")
    assert second.run() == 1
    assert "another sink named 'sink' writes to this folder" in second.log_file.read_text()


def test_a_redis_that_is_killed_loses_the_sink_nothing(tmp_path: Path) -> None:
    redis = RedisServer(arguments=("--appendonly", "yes", "--appendfsync", "always")).start()
    try:
        with running(redis.url, tmp_path) as made:
            feed(client(redis), map(activity, range(700)))
            until(lambda: written(tmp_path)[0] >= 500)
            redis.kill()
            until(lambda: failures(made))
            redis.start()
            feed(client(redis), map(activity, range(700, 1_000)))
            until(lambda: written(tmp_path)[1] == 1_000 and client(redis).xlen(ACTIVITY_STREAM) == 0)
    finally:
        redis.close()
    assert written(tmp_path) == (1_000, 1_000)


@pytest.mark.slow
def test_after_flushall_the_sink_makes_its_group_again(tmp_path: Path, own_redis: RedisServer) -> None:
    redis = client(own_redis)
    with running(own_redis.url, tmp_path) as made:
        feed(redis, map(activity, range(10)))
        until(lambda: written(tmp_path)[0] == 10)
        redis.flushall()
        until(lambda: failures(made))
        feed(redis, map(activity, range(10, 30)))
        until(lambda: written(tmp_path)[0] == 30)


@pytest.mark.slow
def test_a_group_that_is_removed_is_made_again(tmp_path: Path, own_redis: RedisServer) -> None:
    """Events that are still in the stream are read again: readers drop their repeats."""
    redis = client(own_redis)
    redis.xgroup_create(ACTIVITY_STREAM, "other", "0", mkstream=True)
    with running(own_redis.url, tmp_path) as made:
        feed(redis, map(activity, range(10)))
        until(lambda: written(tmp_path)[0] == 10)
        redis.xgroup_destroy(ACTIVITY_STREAM, GROUP)
        until(lambda: failures(made))
        feed(redis, map(activity, range(10, 30)))
        until(lambda: written(tmp_path)[1] == 30)
    assert rows(duckdb.connect(), tmp_path, "activity").aggregate("count(*)").fetchall() == [(30,)]


def test_streams_behind_sentinels_are_read(tmp_path: Path) -> None:
    with watched(1) as parts:
        until(parts.is_ready)
        feed(client(parts.servers[0]), map(activity, range(20)))
        worker(source(parts.url), tmp_path).run()
    assert written(tmp_path) == (20, 20)


def test_streams_are_read_over_tls_from_a_server_that_is_verified(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "authority"), Authority(tmp_path, "stranger")
    certificate, key = authority.sign("server", "IP:127.0.0.1")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key),
               "--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "no")  # fmt: skip
    server = RedisServer(arguments=options, program=needed("redis-server", "redis-server")).start()
    try:
        feed(client(server), map(activity, range(20)))
        url = f"rediss://127.0.0.1:{port}/0?ssl_min_version=1.3&ssl_ca_certs="
        with pytest.raises(LostConnectionError, match="certificate"):
            source(f"{url}{stranger.certificate}")
        for _ in range(20):  # each connection gets session tickets at another moment
            source(f"{url}{authority.certificate}")
        worker(source(f"{url}{authority.certificate}"), tmp_path / "out").run()
    finally:
        server.close()
    assert written(tmp_path / "out") == (20, 20)


def test_events_that_are_trimmed_before_the_write_are_counted(own_redis: RedisServer, tmp_path: Path) -> None:
    redis = client(own_redis)
    feed(redis, map(activity, range(100)))
    made = source(own_redis.url)
    assert len(made.read(100, 0)) == 100
    redis.xtrim(ACTIVITY_STREAM, maxlen=30, approximate=False)
    copying = worker(source(own_redis.url), tmp_path)
    copying.run()
    assert written(tmp_path) == (30, 30)
    assert copying.metrics.registry.get_sample_value("ranker_sink_lost_total", {"table": "activity"}) == 70
    assert redis.xpending(ACTIVITY_STREAM, GROUP)["pending"] == 0


def test_a_damaged_entry_is_kept_and_does_not_stop_the_others(tmp_path: Path, own_redis: RedisServer) -> None:
    redis = client(own_redis)
    feed(redis, [activity(1), b"not JSON", activity(2)])
    redis.xadd(ACTIVITY_STREAM, {"a": "1", "b": "2"})
    copying = worker(source(own_redis.url), tmp_path)
    copying.run()
    assert written(tmp_path) == (2, 2)
    (file,) = tmp_path.glob("rejected/activity/date=*/*.jsonl")
    assert [line.split('"event": ')[1] for line in file.read_text().splitlines()] == ['"not JSON"}', '"a 1 b 2"}']
    labels = {"table": "activity", "kind": "json"}
    assert copying.metrics.registry.get_sample_value("ranker_sink_rejected_total", labels) == 2


def test_lag_is_the_age_and_number_of_events_that_are_not_acknowledged(own_redis: RedisServer) -> None:
    redis = client(own_redis)
    made = source(own_redis.url)
    assert made.lag() == (0, 0.0)
    minute_ago = int(1000 * (time.time() - 60))
    for number in range(10):
        redis.xadd(ACTIVITY_STREAM, {"event": activity(number)}, id=f"{minute_ago + number}-0")
    assert made.lag().entries == 10
    entries = made.read(4, 0)
    assert made.lag().entries == 10
    assert 59 < made.lag().seconds < 70
    made.acknowledge(entries)
    made.trim()
    assert made.lag().entries == 6
    made.acknowledge(made.read(100, 0))
    made.trim()
    assert made.lag() == (0, 0.0)


def test_the_rights_of_its_user_are_enough(tmp_path: Path, own_redis: RedisServer) -> None:
    redis = client(own_redis)
    (user,) = re.findall(r"^user sink (.*)", (ROOT / "deploy/redis/events.acl").read_text(), re.M)
    redis.execute_command("ACL", "SETUSER", "sink", *user.replace("#SINK", ">any").split())
    feed(redis, map(activity, range(20)))
    url = f"unix://sink:any@{own_redis.socket}"
    made = source(url)
    gone = source(own_redis.url, "gone")
    assert len(gone.read(5, 0)) == 5
    assert made.claim(idle_seconds=0) == 5
    assert made.lag().entries == 20
    worker(made, tmp_path).run()
    assert (redis.xlen(ACTIVITY_STREAM), written(tmp_path)) == (0, (20, 20))


@pytest.mark.slow
def test_streams_of_a_cluster_are_read(tmp_path: Path) -> None:
    with cluster(3) as nodes:
        until(nodes.is_whole)
        made = source(nodes.url())
        for number in range(50):
            made._client.xadd(ACTIVITY_STREAM, {"event": activity(number)})
        worker(made, tmp_path).run()
        assert made._run("XLEN", ACTIVITY_STREAM) == 0
    assert written(tmp_path) == (50, 50)


def kill_often(tmp_path: Path, redis: RedisServer, *, events: int, kills: int, rows: int) -> None:
    """Kill the sink while another thread writes events; then let it finish, and count."""
    out = tmp_path / "out"
    sink = SinkProcess(out, redis.url, "--batch-seconds", "0.3", "--batch-rows", str(rows))
    writing = threading.Thread(target=_write, args=(redis, events))
    writing.start()
    chance = random.Random(1)
    try:
        for kill in range(kills):
            sink.start()
            during = kill % 3 == 0  # in the middle of a write, else right after one
            sink.until(partial(_is_writing, out, len(files(out)) + chance.randint(1, events // rows // kills), during))
            sink.kill()
        writing.join()
        sink.start()
        sink.until(lambda: client(redis).xlen(ACTIVITY_STREAM) == 0, seconds=600)
        assert sink.stop() == 0
    finally:
        sink.close()
        writing.join()
    assert written(out) == (events, events)


def _is_writing(out: Path, count: int, during: bool) -> bool:
    if during and any(out.glob("activity/date=*/*.partial")):
        return True
    return len(files(out)) >= count + 2 * during


def _write(redis: RedisServer, events: int) -> None:
    for start in range(0, events, 500):
        feed(client(redis), map(activity, range(start, start + 500)))


def test_killed_twice_the_sink_loses_nothing_and_writes_nothing_twice(tmp_path: Path, own_redis: RedisServer) -> None:
    kill_often(tmp_path, own_redis, events=6_000, kills=2, rows=400)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_killed_twenty_times_during_a_million_events_the_sink_loses_nothing(
    tmp_path: Path, own_redis: RedisServer
) -> None:
    kill_often(tmp_path, own_redis, events=1_000_000, kills=20, rows=5_000)
