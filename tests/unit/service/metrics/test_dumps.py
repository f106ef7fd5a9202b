"""Several processes that serve one port have one set of metrics."""

from __future__ import annotations

import re

from service.metrics import Metrics
from service.names import StoreState


def value(text: bytes, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text.decode(), re.M)
    assert found is not None, series
    return float(found[1])


def together(*processes: Metrics) -> bytes:
    first, *others = processes
    return first.render([one.dump() for one in others])


def test_counters_and_histograms_are_added_up() -> None:
    processes = [Metrics(), Metrics(), Metrics()]
    for number, one in enumerate(processes):
        one.request_started()
        one.request_finished("/rank", 200, "none", 0.001 * (number + 1))
    text = together(*processes)
    assert value(text, 'ranker_requests_total{route="/rank",status="200",variant="none"}') == 3
    histogram = 'ranker_request_duration_seconds_bucket{le="%s",route="/rank",variant="none"}'
    assert [value(text, histogram % bound) for bound in ("0.0005", "0.001", "0.002", "+Inf")] == [0, 1, 2, 3]
    assert abs(value(text, 'ranker_request_duration_seconds_sum{route="/rank",variant="none"}') - 0.006) < 1e-12


def test_a_series_of_one_process_only_is_there() -> None:
    one, other = Metrics(), Metrics()
    other.bundle_served("mgnm", "7", "cpu")
    assert b'ranker_bundle_info{bundle="mgnm@7",model="mgnm",provider="cpu",version="7"} 1.0' in together(one, other)


def test_what_is_going_on_is_added_up() -> None:
    one, other = Metrics(), Metrics()
    for process in (one, other):
        process.request_started()
        process.connections(4)
        process.queue_depth("mgnm@7", 2)
        process.watch_stream("ab:exposure:v1", lambda: 5)
    text = together(one, other)
    assert value(text, "ranker_inflight_requests") == 2
    assert value(text, "ranker_connections") == 8
    assert value(text, 'ranker_queue_depth{bundle="mgnm@7"}') == 4
    assert value(text, 'ranker_stream_queue_depth{stream="ab:exposure:v1"}') == 10


def test_a_fault_of_one_process_is_seen() -> None:
    well, ill = Metrics(), Metrics()
    for process, is_well in ((well, True), (ill, False)):
        process.ready(is_well)
        state = StoreState(is_up=is_well, open_breakers=0 if is_well else 1)
        process.watch_store("reads", lambda state=state: state)
        process.experiments_state(revision=3 if is_well else 2, is_shared=is_well, is_file_in_force=is_well)
        process.bundle_slow("mgnm@7", not is_well)
    for text in (together(well, ill), together(ill, well)):
        assert value(text, "ranker_ready") == 0
        assert value(text, 'ranker_store_up{kind="reads"}') == 0
        assert value(text, 'ranker_store_breaker_open{kind="reads"}') == 1
        assert value(text, "ranker_experiments_state_revision") == 2
        assert value(text, "ranker_experiments_state_shared") == 0
        assert value(text, "ranker_experiments_file_in_force") == 0
        assert value(text, "ranker_experiments_last_success_timestamp_seconds") == 0
        assert value(text, 'ranker_bundle_slow{bundle="mgnm@7"}') == 1


def test_evictions_that_each_process_counts_are_counted_once() -> None:
    one, other = Metrics(), Metrics()
    one.redis_evicted("behaviours", 6)
    other.redis_evicted("behaviours", 5)
    assert value(together(one, other), 'ranker_redis_evicted_keys_total{redis="behaviours"}') == 6


def test_memory_of_the_processes_is_added_up_and_the_oldest_start_is_told() -> None:
    one, other = Metrics(), Metrics()
    both, single = together(one, other), one.render()
    name = "process_resident_memory_bytes"
    assert 1.9 < value(both, name) / value(single, name) < 2.1
    assert value(both, "process_start_time_seconds") == value(single, "process_start_time_seconds")


def test_counters_never_fall_when_a_process_ends() -> None:
    ended, lasting = Metrics(), Metrics()
    for process in (ended, lasting):
        process.rejected("overloaded")
        process.candidates(200, 0)
        process.connections(3)
    left = lasting.past([lasting.past([ended.dump()]), ended.dump()])  # two have ended, one after the other
    text = lasting.render([left])
    assert value(text, 'ranker_rejected_total{reason="overloaded"}') == 3
    assert value(text, "ranker_candidates_count") == 3
    assert value(text, "ranker_connections") == 3
    assert value(text, "process_resident_memory_bytes") < 1.5 * value(lasting.render(), "process_resident_memory_bytes")
