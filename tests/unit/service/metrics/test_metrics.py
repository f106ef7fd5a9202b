"""Metrics: one set for each application, names by convention, closed labels."""

from __future__ import annotations

from service.metrics import STAGES, Metrics
from tests.support.fakes import NOW_MS, FakeExperiments


def test_two_applications_in_one_process_do_not_meet() -> None:
    one, other = Metrics(), Metrics()
    one.rejected("overloaded")
    assert b'ranker_rejected_total{reason="overloaded"} 1.0' in one.render()
    assert b'ranker_rejected_total{reason="overloaded"} 1.0' not in other.render()


def test_counters_bring_no_series_of_when_they_were_made() -> None:
    assert b"_created" not in Metrics().render()


def test_names_end_in_their_unit() -> None:
    for one in Metrics().descriptions:
        if one.kind == "histogram":
            units = ("_seconds", "_rows", "_candidates", "_length", "_distance", "_overlap", "_difference")
            assert one.name.endswith(units), one.name
        assert one.name.endswith("_total") == (one.kind == "counter"), one.name


def test_latency_buckets_reach_from_a_fifth_of_a_millisecond_to_two_seconds() -> None:
    metrics = Metrics()
    metrics.stages(dict.fromkeys(STAGES, 0.001))
    text = metrics.render().decode()
    for bound in ("0.0002", "0.02", "2.0"):
        assert f'ranker_stage_duration_seconds_bucket{{le="{bound}",stage="total"}}' in text


def test_only_good_answers_feed_the_durations() -> None:
    metrics = Metrics()
    for status in (200, 429):
        metrics.request_started()
        metrics.request_finished("/rank", status, "none", 0.004)
    text = metrics.render().decode()
    assert 'ranker_request_duration_seconds_count{route="/rank",variant="none"} 1.0' in text
    assert 'ranker_requests_total{route="/rank",status="429",variant="none"} 1.0' in text
    assert "ranker_inflight_requests 0.0" in text


def test_the_file_in_force_is_one_series_after_a_reload() -> None:
    metrics = Metrics()
    metrics.experiments_in_force("aaa", "1")
    metrics.experiments_in_force("bbb", "2")
    series = [line for line in metrics.render().decode().splitlines() if line.startswith("ranker_experiments_info")]
    assert series == ['ranker_experiments_info{digest="bbb",revision="2"} 1.0']


def test_a_bundle_that_is_dropped_leaves_no_series() -> None:
    metrics = Metrics()
    metrics.bundle_served("mgnm", "7", "cpu")
    assert b'ranker_bundle_info{bundle="mgnm@7"' in metrics.render()
    metrics.bundle_dropped("mgnm", "7", "cpu")
    assert b"ranker_bundle_info{" not in metrics.render()


def test_a_decision_counts_once_a_layer_and_names_no_bucket() -> None:
    metrics = Metrics()
    metrics.assigned(FakeExperiments().decide("u1", {}, NOW_MS))
    [line] = [
        line
        for line in metrics.render().decode().splitlines()
        if line.startswith("ranker_assignments_total") and line.endswith(" 1.0")
    ]
    labels = line.partition("{")[2].partition("}")[0]
    assert {pair.partition("=")[0] for pair in labels.split(",")} == {"layer", "experiment", "variant", "reason"}


def test_the_depth_of_a_stream_is_read_at_each_scrape() -> None:
    metrics = Metrics()
    queue = ["event"]
    metrics.watch_stream("ab:exposure:v1", lambda: len(queue))
    assert b'ranker_stream_queue_depth{stream="ab:exposure:v1"} 1.0' in metrics.render()
    queue.clear()
    assert b'ranker_stream_queue_depth{stream="ab:exposure:v1"} 0.0' in metrics.render()


def _serve_for_a_while(metrics: Metrics, version: str) -> None:
    name = f"mgnm@{version}"
    metrics.bundle_served("mgnm", version, "cpu")
    metrics.queue_depth(name, 0)
    metrics.batch(name, 1, 200)
    metrics.engine_failed(name)
    metrics.shadow_dropped(name, "pyramid_mixer@1", "full")
    metrics.bundle_dropped("mgnm", version, "cpu")


def test_a_service_that_swaps_bundles_for_years_keeps_the_series_of_the_last_ones() -> None:
    metrics = Metrics()
    sizes = []
    for version in range(40):
        _serve_for_a_while(metrics, str(version))
        sizes.append(len(metrics.render().splitlines()))
    assert sizes[8:] == [sizes[7]] * 32
    text = metrics.render()
    assert b'"mgnm@31"' not in text
    assert b'ranker_engine_failures_total{bundle="mgnm@32"} 1.0' in text


def test_a_bundle_that_is_served_again_keeps_its_counts() -> None:
    metrics = Metrics()
    _serve_for_a_while(metrics, "1")
    metrics.bundle_served("mgnm", "1", "cpu")
    for version in range(2, 20):
        _serve_for_a_while(metrics, str(version))
    assert b'ranker_engine_failures_total{bundle="mgnm@1"} 1.0' in metrics.render()
