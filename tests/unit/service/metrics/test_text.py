"""The exposition of a scripted sequence of events is the recorded one: names, labels, help, buckets and values."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from contract.events.streams import ACTIVITY_STREAM, EXPOSURE_STREAM
from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.parse import parse_experiments
from service.metrics import Metrics
from service.names import StoreState
from service.shadow.comparison import compare
from tests.support.fakes import EXPERIMENTS, NOW_MS, FakeExperiments

RECORDED = Path(__file__).with_name("recorded.txt")


def play(metrics: Metrics) -> None:
    """Call each method that counts something at least once."""
    play_http(metrics)
    play_rankings(metrics)
    play_store(metrics)
    play_experiments(metrics)
    play_bundles(metrics)
    metrics.workers_wanted(2)
    metrics.worker_restarted()
    metrics.loop_waited(0.004)


def play_http(metrics: Metrics) -> None:
    answers = [("/rank", 200, "a:control"), ("/rank", 200, "a:control"), ("/rank", 429, "none"), ("/info", 200, "none")]
    for number, (route, status, variant) in enumerate(answers):
        metrics.request_started()
        metrics.request_finished(route, status, variant, 0.001 * (number + 1))
    metrics.request_started()
    metrics.request_finished("/rank", 200, "a:control", 2.5)  # beyond the last bucket
    metrics.request_started()
    metrics.refused_by_protocol(400)
    metrics.connections(7)
    metrics.connection_refused("slow_head")
    metrics.rejected("overloaded")
    metrics.rejected("overloaded")
    metrics.ready(True)
    metrics.behaviours_written(stored=3, repeated=2, refused={"future": 1, "wrong_type": 4})
    metrics.feedback("play")
    metrics.feedback_dropped()
    metrics.feedback_refused()
    metrics.feedback_clamped()
    metrics.caller_answered("feed", "answered")
    metrics.access_reloaded("invalid")


def play_rankings(metrics: Metrics) -> None:
    metrics.stages({"store": 0.0005, "queue": 0.0, "encode": 0.0012, "score": 0.0004, "order": 0.0001, "total": 0.0029})
    metrics.stages({"store": 0.03, "order": 0.0002, "total": 3.0})
    for count, unknown in ((1, 0), (200, 3), (5_000, 5_000)):
        metrics.candidates(count, unknown)
    for used, unknown, new in ((0, 2, 0), (50, 0, 3), (501, 1, 1)):
        metrics.sequence(used, unknown, new)
    metrics.history_unused("items")
    metrics.rules_applied("spread", {"diversity:author": 3, "age_limit": 0})
    for hit in (True, False, True):
        metrics.state_cache(hit)
    metrics.context_value("device", "unknown")
    metrics.degraded("popularity")
    metrics.queue_depth("mgnm@7", 5)
    metrics.queue_depth("store", 0)
    for rows, cost in ((1, 200), (8, 1_600), (129, 60_000)):
        metrics.batch("mgnm@7", rows, cost)
    metrics.batch("store", 2, 2)


def play_store(metrics: Metrics) -> None:
    metrics.store_error("timeout")
    metrics.store_unconfirmed()
    metrics.watch_store("reads", lambda: StoreState(is_up=True, open_breakers=1))
    metrics.watch_store("writes", lambda: StoreState(is_up=False, open_breakers=0))
    metrics.behaviours_trimmed(usable=1, other=10)
    metrics.items_written(stored=8, refused=1)
    metrics.watch_stream(EXPOSURE_STREAM, lambda: 12)
    metrics.stream_trimmed(EXPOSURE_STREAM, 3)
    metrics.events_replayed(ACTIVITY_STREAM, 4)
    metrics.spool_damaged(2)
    metrics.redis_evicted("streams", 6)
    metrics.redis_memory("behaviours", 0.25)


def play_experiments(metrics: Metrics) -> None:
    metrics.assigned(FakeExperiments().decide("u1", {}, NOW_MS))
    metrics.assigned(FakeExperiments().decide("u2", {}, NOW_MS))
    metrics.exposure("pyramid-vs-mgnm", "control")
    metrics.exposure_dropped(("pyramid-vs-mgnm", "control"))
    metrics.ranked(FakeExperiments().decide("u1", {}, NOW_MS), "ok")
    metrics.ranking_logged(("a", "control", "b", "treatment"))
    metrics.ranking_dropped(("b", "treatment"))
    metrics.override_rejected("expired")
    metrics.experiments_reloaded("accepted")
    metrics.track_moved("taken")
    metrics.experiments_in_force("aaa", "1")
    metrics.experiments_in_force('b"\\b', "line\nbreak")
    metrics.experiments_state(revision=3, is_shared=True, is_file_in_force=False)
    metrics.watch_arms(lambda: ExperimentsSnapshot(*parse_experiments(EXPERIMENTS)))


class FakeDrift:
    """One bucket of one quantity."""

    def observed(self) -> dict[tuple[str, ...], float]:
        return {("length", "0"): 7.0}

    def items(self) -> dict[tuple[str, ...], float]:
        return {("candidate", "yes"): 90.0}

    def reference(self) -> dict[tuple[str, ...], float]:
        return {("length", "0"): 0.25}

    def unknown(self) -> dict[tuple[str, ...], float]:
        return {("candidate",): 0.5}

    def indices(self) -> dict[tuple[str, ...], float]:
        return {("length", "golden"): 0.125}


def play_bundles(metrics: Metrics) -> None:
    metrics.bundle_loaded("ok")
    metrics.bundle_served("mgnm", "7", "cpu")
    metrics.bundle_served("pyramid_mixer", "2", "cpu")
    metrics.bundle_dropped("pyramid_mixer", "2", "cpu")
    metrics.engine_failed("mgnm@7")
    metrics.scores_not_finite("mgnm@7", 9)
    metrics.bundle_slow("mgnm@7", True)
    metrics.run_ended("mgnm@7")
    metrics.shadow_dropped("mgnm@7", "mgnm@8", "full")
    metrics.shadow_failed("mgnm@7", "mgnm@8")
    scores = np.array([0.5, 1.0, 2.0], dtype=np.float32)
    metrics.shadow_compared("mgnm@7", "mgnm@8", compare(scores, scores[::-1]), 0.001, 0.004)
    metrics.drift_begins("mgnm@7", FakeDrift())
    metrics.task_failed("stream")
    metrics.task_restarted("stream")
    metrics.task_failed("bundles")
    metrics.watch_log(lambda: 11)


def rendered(metrics: Metrics) -> str:
    """Our own families of a scrape, sorted by name: help, type, then the series in their order."""
    lines = [line for line in metrics.render().decode().splitlines() if "ranker_" in line]
    families: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("# HELP"):
            current = families.setdefault(line.split()[2], [])
        current.append(line)
    return "".join(line + "\n" for name in sorted(families) for line in families[name])


def test_text_of_scripted_events_is_the_recorded_one() -> None:
    metrics = Metrics()
    before = rendered(metrics)
    play(metrics)
    after = rendered(metrics)
    assert before + "\n" + after == RECORDED.read_text(encoding="utf-8")


def test_time_of_the_last_good_look_is_set() -> None:
    metrics = Metrics()
    metrics.experiments_state(revision=3, is_shared=True, is_file_in_force=True)
    found = re.search(r"^ranker_experiments_last_success_timestamp_seconds (\S+)$", metrics.render().decode(), re.M)
    assert found is not None
    assert float(found[1]) > 1.7e9
