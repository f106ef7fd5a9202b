"""Every metric: name, labels, buckets, help; one method for each event (docs/operations.md lists them).

Labels are closed sets: route templates, statuses, what the experiment file names, bundles. A user, an item, a bucket
or a text that a client sent is never one. Where the set is known from the start, every series is there from the
start, at 0: a rate over a series that begins with its first event does not see that event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import Final, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.registry import Collector

from contract.assignment import Decision, ExperimentsSnapshot
from contract.behaviours import ACTION_CODES
from contract.events import ACTIVITY_STREAM, EXPOSURE_STREAM
from contract.experiments import BUCKETS
from service.names import Degraded, ErrorKind, RefusalReason, RejectReason, StoreKind, StoreState, TaskName

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
REFUSALS: Final = ("overloaded", "deadline_exceeded", "not_ready", "too_large")
STAGES: Final = ("store", "queue", "encode", "score", "order", "total")

# 0.2 ms to 2 s, dense about a deadline of 20 ms.
_LATENCY: Final = (
    0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0,
)  # fmt: skip
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_CANDIDATES: Final = (1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
_BATCH_CANDIDATES: Final = (10, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
_LENGTHS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """The metrics of one application.

    Args:
        registry: one per application, so that two in one process do not meet.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        # Without the second series for every counter, which nothing here asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        self._declare_http(registry)
        self._declare_ranking(registry)
        self._declare_store(registry)
        self._declare_experiments(registry)
        self._declare_bundles(registry)
        self._declare_process(registry)

    def _declare_http(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self._requests = counter("ranker_requests_total", "Answers sent.", "route", "status", "variant")
        self._durations = Histogram(
            "ranker_request_duration_seconds", "From the request's headers to the last byte of a successful answer.",
            ("route", "variant"), buckets=_LATENCY, registry=registry,
        )  # fmt: skip
        self._inflight = Gauge("ranker_inflight_requests", "Requests being answered.", registry=registry)
        self._connections = Gauge("ranker_connections", "Open connections.", registry=registry)
        self._closed = counter("ranker_connections_refused_total", "Connections ended by the server.", "reason")
        self._rejected = counter("ranker_rejected_total", "Requests refused, by reason.", "reason")
        for reason in REFUSALS:
            self._rejected.labels(reason)
        self._ready = Gauge("ranker_ready", "1 while the service takes rankings.", registry=registry)
        self._written = counter("ranker_behaviours_written_total", "Behaviours sent to be stored.", "result")
        for result in ("stored", "repeated", "refused"):
            self._written.labels(result)
        self._refused = counter("ranker_behaviours_refused_total", "Behaviours refused, by reason.", "reason")
        for reason in get_args(RefusalReason):
            self._refused.labels(reason)
        self._feedback = counter("ranker_feedback_total", "Activity taken for the analysis.", "action")
        for action in ACTION_CODES:
            self._feedback.labels(action)
        self._feedback_dropped = counter("ranker_feedback_dropped_total", "Activity that found no room.")
        self._feedback_refused = counter("ranker_feedback_refused_total", "Activity whose time cannot be right.")

    def _declare_ranking(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        stages = histogram("ranker_stage_duration_seconds", "Time of a ranking by stage.", _LATENCY, "stage")
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._candidates = histogram("ranker_candidates", "Candidates of a request.", _CANDIDATES)
        self._lengths = histogram("ranker_sequence_length", "Behaviours that a model read for a request.", _LENGTHS)
        self._batch_rows = histogram("ranker_batch_rows", "Requests of a batch.", _ROWS, "bundle")
        self._batch_candidates = histogram(
            "ranker_batch_candidates", "Candidates of a batch (of the store: users).", _BATCH_CANDIDATES, "bundle"
        )
        self._queue_depth = Gauge("ranker_queue_depth", "Requests waiting for a batch.", ("bundle",), registry=registry)
        unused = Counter(
            "ranker_history_unused_total", "Rankings of users of whose history the model could use nothing.",
            ("reason",), registry=registry,
        )  # fmt: skip
        self._unused = {reason: unused.labels(reason) for reason in ("items", "actions")}
        unknown = Counter("ranker_unknown_items_total", "Items the model has never seen.", ("kind",), registry=registry)
        self._unknown = {kind: unknown.labels(kind) for kind in ("behaviour", "candidate")}
        cache = Counter("ranker_state_cache_total", "Look-ups of user states.", ("result",), registry=registry)
        self._cache = {hit: cache.labels("hit" if hit else "miss") for hit in (True, False)}
        self._degraded = Counter(
            "ranker_degraded_total", "Answers that went without something.", ("reason",), registry=registry
        )
        for reason in get_args(Degraded):
            self._degraded.labels(reason)

    def _declare_store(self, registry: CollectorRegistry) -> None:
        self._store_up = Gauge(
            "ranker_store_up", "0 while every read, write or event fails.", ("kind",), registry=registry
        )
        self._store_errors = Counter("ranker_store_errors_total", "Errors of the store.", ("kind",), registry=registry)
        for kind in get_args(ErrorKind):
            self._store_errors.labels(kind)
        trimmed = Counter("ranker_behaviours_trimmed_total", "Behaviours dropped.", ("kind",), registry=registry)
        self._trimmed = {kind: trimmed.labels(kind) for kind in ("usable", "other")}
        self._breakers = Gauge(
            "ranker_store_breaker_open", "Servers of the store that get only probes.", ("kind",), registry=registry
        )
        self._unconfirmed = Counter(
            "ranker_store_unconfirmed_total", "Round trips of writes that no replica confirmed.", registry=registry
        )
        self._stream_depth = Gauge(
            "ranker_stream_queue_depth", "Events waiting to be written.", ("stream",), registry=registry
        )
        self._declare_events(registry)

    def _declare_events(self, registry: CollectorRegistry) -> None:
        cut = Counter("ranker_stream_trimmed_total", "Oldest events dropped.", ("stream",), registry=registry)
        replayed = Counter("ranker_stream_replayed_total", "Events from the spool.", ("stream",), registry=registry)
        streams = (EXPOSURE_STREAM, ACTIVITY_STREAM)
        self._stream_trimmed = {name: cut.labels(name) for name in streams}
        self._replayed = {name: replayed.labels(name) for name in streams}
        self._spool_damaged = Counter("ranker_spool_damaged_total", "Lines of the spool not read.", registry=registry)
        evicted = Counter("ranker_redis_evicted_keys_total", "Keys evicted by Redis.", ("redis",), registry=registry)
        memory = Gauge("ranker_redis_memory_ratio", "Memory used of maxmemory.", ("redis",), registry=registry)
        self._evicted = {name: evicted.labels(name) for name in ("behaviours", "streams")}
        self._memory = {name: memory.labels(name) for name in ("behaviours", "streams")}

    def _declare_experiments(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        self._assignments = counter(
            "ranker_assignments_total", "Decisions of a layer.", "layer", "experiment", "variant", "reason"
        )
        self._exposures = counter("ranker_exposures_total", "Exposures taken.", "experiment", "variant")
        self._exposures_dropped = counter(
            "ranker_exposures_dropped_total", "Exposures that found no room.", "experiment", "variant"
        )
        self._overrides = counter("ranker_overrides_rejected_total", "Override headers that were ignored.", "reason")
        for reason in get_args(RejectReason):
            self._overrides.labels(reason)
        self._reloads = counter("ranker_experiments_reload_total", "Looks at the experiment file.", "result")
        self._experiments = Gauge(
            "ranker_experiments_info", "1 for the experiment file in force.", ("digest", "revision"), registry=registry
        )
        self._reloaded_at = Gauge(
            "ranker_experiments_last_success_timestamp_seconds",
            "When the file on this machine was last found to be the one in force.",
            registry=registry,
        )
        self._state_revision = Gauge(
            "ranker_experiments_state_revision", "Accepted experiment files, so far.", registry=registry
        )
        self._state_shared = Gauge(
            "ranker_experiments_state_shared",
            "1 while this replica can agree on experiments with the others; also 1 without an experiment file.",
            registry=registry,
        )
        self._file_in_force = Gauge(
            "ranker_experiments_file_in_force",
            "1 while the experiment file on this machine is the one in force.",
            registry=registry,
        )

    def _declare_bundles(self, registry: CollectorRegistry) -> None:
        names = ("bundle", "model", "version", "provider")
        self._bundles = Gauge("ranker_bundle_info", "1 for each bundle that is loaded.", names, registry=registry)
        self._loads = Counter("ranker_bundle_load_total", "Loadings of a bundle.", ("result",), registry=registry)
        for result in ("ok", "failed"):
            self._loads.labels(result)
        self._engine_failures = Counter(
            "ranker_engine_failures_total", "Runs of a graph that failed.", ("bundle",), registry=registry
        )
        self._unscored = Counter(
            "ranker_unscored_items_total", "Candidates without a finite score.", ("bundle",), registry=registry
        )
        self._slow = Gauge(
            "ranker_bundle_slow", "1 while requests avoid a slow bundle.", ("bundle",), registry=registry
        )
        self._runs_ended = Counter(
            "ranker_runs_ended_total", "Batches ended because they took too long.", ("bundle",), registry=registry
        )

    def _declare_process(self, registry: CollectorRegistry) -> None:
        self._restarts = Counter(
            "ranker_task_restarts_total", "Background tasks started again after a fault.", ("task",), registry=registry
        )
        self._tasks_down = Gauge(
            "ranker_tasks_down", "Background tasks that wait to be started again.", ("task",), registry=registry
        )
        self._log_dropped = Counter(
            "ranker_log_lines_dropped_total", "Log lines that nobody read in time.", registry=registry
        )
        self._count_log_drops: Callable[[], int] = lambda: 0
        self._log_drops_counted = 0
        self._scraping = Lock()
        for task in get_args(TaskName):
            self._restarts.labels(task)
            self._tasks_down.labels(task)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        with self._scraping:
            dropped = self._count_log_drops()
            self._log_dropped.inc(dropped - self._log_drops_counted)
            self._log_drops_counted = dropped
        return generate_latest(self.registry)

    # --- HTTP

    def request_started(self) -> None:
        """Count a request in."""
        self._inflight.inc()

    def request_finished(self, route: str, status: int, variant: str, seconds: float) -> None:
        """Count a request out; only good answers feed the durations, or fast refusals would look like speed."""
        self._inflight.dec()
        self._requests.labels(route, status, variant).inc()
        if status < 400:
            self._durations.labels(route, variant).observe(seconds)

    def refused_by_protocol(self, status: int) -> None:
        """Count an answer to something that never became a request."""
        self._requests.labels("none", status, "none").inc()

    def connections(self, count: int) -> None:
        """Note how many connections are open."""
        self._connections.set(count)

    def connection_refused(self, reason: str) -> None:
        """Count a connection that the server ended: slow headers, slow body, too many, ..."""
        self._closed.labels(reason).inc()

    def rejected(self, reason: str) -> None:
        """Count a request that was refused, by a closed list of reasons."""
        self._rejected.labels(reason).inc()

    def ready(self, is_ready: bool) -> None:
        """Note whether rankings are taken."""
        self._ready.set(is_ready)

    def behaviours_written(self, *, stored: int, repeated: int, refused: Mapping[RefusalReason, int]) -> None:
        """Count behaviours that were sent to be stored; `refused` by reason."""
        for result, count in (("stored", stored), ("repeated", repeated), ("refused", sum(refused.values()))):
            self._written.labels(result).inc(count)
        for reason, count in refused.items():
            self._refused.labels(reason).inc(count)

    def feedback(self, action: str) -> None:
        """Count activity that was taken."""
        self._feedback.labels(action).inc()

    def feedback_dropped(self, _labels: tuple[str, ...] = ()) -> None:
        """Count activity that found no room."""
        self._feedback_dropped.inc()

    def feedback_refused(self) -> None:
        """Count activity whose time is too far ahead of the clock."""
        self._feedback_refused.inc()

    # --- ranking

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Observe the stages of one ranking; names as in STAGES."""
        for stage, duration in seconds.items():
            self._stages[stage].observe(duration)

    def candidates(self, count: int, unknown: int) -> None:
        """Observe how many candidates a request has, and how many of them the model has never seen."""
        self._candidates.observe(count)
        self._unknown["candidate"].inc(unknown)

    def sequence(self, used: int, unknown: int) -> None:
        """Observe how many behaviours a model read, and how many it passed over as unknown."""
        self._lengths.observe(used)
        self._unknown["behaviour"].inc(unknown)

    def history_unused(self, reason: str) -> None:
        """Count a ranking of a user with a history of which the model could use nothing: `items` or `actions`."""
        self._unused[reason].inc()

    def state_cache(self, hit: bool) -> None:
        """Count a look-up of a user's state."""
        self._cache[hit].inc()

    def degraded(self, reason: str) -> None:
        """Count an answer that went without something."""
        self._degraded.labels(reason).inc()

    def queue_depth(self, name: str, entries: int) -> None:
        """Note how many entries wait in a batcher."""
        self._queue_depth.labels(name).set(entries)

    def batch(self, name: str, rows: int, cost: int) -> None:
        """Observe a batch that is about to run."""
        self._batch_rows.labels(name).observe(rows)
        self._batch_candidates.labels(name).observe(cost)

    # --- store and streams

    def store_error(self, kind: str) -> None:
        """Count an error of a closed list of kinds."""
        self._store_errors.labels(kind).inc()

    def store_unconfirmed(self) -> None:
        """Count a round trip of writes that only a primary has confirmed."""
        self._unconfirmed.inc()

    def watch_store(self, kind: StoreKind, state: Callable[[], StoreState]) -> None:
        """Ask for a client's state at each scrape."""
        self._store_up.labels(kind).set_function(lambda: state().is_up)
        self._breakers.labels(kind).set_function(lambda: state().open_breakers)

    def behaviours_trimmed(self, *, usable: int, other: int) -> None:
        """Count behaviours dropped from histories that were too long, by whether a served model can use them."""
        self._trimmed["usable"].inc(usable)
        self._trimmed["other"].inc(other)

    def watch_stream(self, name: str, depth: Callable[[], int]) -> None:
        """Ask for a stream's depth at each scrape."""
        self._stream_depth.labels(name).set_function(depth)

    def stream_trimmed(self, name: str, count: int) -> None:
        """Count the oldest events of a stream, dropped to keep it at its length."""
        self._stream_trimmed[name].inc(count)

    def events_replayed(self, stream: str, count: int) -> None:
        """Count events of the spool that were written to a stream."""
        self._replayed[stream].inc(count)

    def spool_damaged(self, count: int) -> None:
        """Count lines of the spool that could not be read, or that Redis will never take."""
        self._spool_damaged.inc(count)

    def redis_evicted(self, redis: str, count: int) -> None:
        """Count keys that a Redis has evicted since it was last looked at."""
        self._evicted[redis].inc(count)

    def redis_memory(self, redis: str, ratio: float) -> None:
        """Note how much of its maxmemory the fullest server of a Redis uses."""
        self._memory[redis].set(ratio)

    # --- experiments

    def assigned(self, decision: Decision) -> None:
        """Count what each layer decided."""
        for layer in decision.layers:
            self._assignments.labels(layer.layer, layer.experiment or "none", layer.arm or "none", layer.reason).inc()

    def exposure(self, experiment: str, variant: str) -> None:
        """Count an exposure that was taken."""
        self._exposures.labels(experiment, variant).inc()
        self._exposures_dropped.labels(experiment, variant)

    def exposure_dropped(self, labels: tuple[str, ...]) -> None:
        """Count an exposure that found no room; labels are its experiment and variant."""
        self._exposures_dropped.labels(*labels).inc()

    def override_rejected(self, reason: str) -> None:
        """Count an override header that was ignored."""
        self._overrides.labels(reason).inc()

    def experiments_reloaded(self, result: str) -> None:
        """Count an attempt to load the experiment file."""
        self._reloads.labels(result).inc()

    def experiments_in_force(self, digest: str, revision: str) -> None:
        """Note which file is in force."""
        self._experiments.clear()
        self._experiments.labels(digest, revision).set(1)

    def experiments_state(self, *, revision: int, is_shared: bool, is_file_in_force: bool) -> None:
        """Note how the state in force relates to the other replicas and to the file on this machine."""
        self._state_revision.set(revision)
        self._state_shared.set(is_shared)
        self._file_in_force.set(is_file_in_force)
        if is_file_in_force:
            self._reloaded_at.set_to_current_time()

    def watch_arms(self, snapshot: Callable[[], ExperimentsSnapshot | None]) -> None:
        """Tell the planned shares of the experiments in force at each scrape."""
        self.registry.register(_ArmShares(snapshot))

    # --- bundles

    def bundle_loaded(self, result: str) -> None:
        """Count a loading: `ok` or `failed`."""
        self._loads.labels(result).inc()

    def bundle_served(self, model: str, version: str, provider: str) -> None:
        """Note a bundle that is loaded, and where it truly runs."""
        self._bundles.labels(f"{model}@{version}", model, version, provider).set(1)
        self._engine_failures.labels(f"{model}@{version}")
        self._unscored.labels(f"{model}@{version}")
        self._runs_ended.labels(f"{model}@{version}")
        self._slow.labels(f"{model}@{version}").set(0)

    def bundle_dropped(self, model: str, version: str, provider: str) -> None:
        """Note a bundle that is not loaded any more."""
        self._bundles.remove(f"{model}@{version}", model, version, provider)
        self._slow.remove(f"{model}@{version}")

    def engine_failed(self, bundle: str) -> None:
        """Count a run of a graph that failed."""
        self._engine_failures.labels(bundle).inc()

    def scores_not_finite(self, bundle: str, candidates: int) -> None:
        """Count candidates for which a model gave no finite score."""
        self._unscored.labels(bundle).inc(candidates)

    def bundle_slow(self, bundle: str, is_slow: bool) -> None:
        """Note whether requests avoid a bundle because it is slow."""
        self._slow.labels(bundle).set(is_slow)

    def run_ended(self, bundle: str) -> None:
        """Count a batch that was ended because it took too long."""
        self._runs_ended.labels(bundle).inc()

    # --- the process

    def task_failed(self, task: TaskName) -> None:
        """Note that a background task ended by a fault and waits to be started again."""
        self._tasks_down.labels(task).inc()

    def task_restarted(self, task: TaskName) -> None:
        """Count a restart of a background task."""
        self._tasks_down.labels(task).dec()
        self._restarts.labels(task).inc()

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """Ask at each scrape how many log lines were dropped: counting while a line is written could deadlock."""
        self._count_log_drops = dropped


class _ArmShares(Collector):
    """The share of an experiment's units that each arm was given, from the file in force."""

    def __init__(self, snapshot: Callable[[], ExperimentsSnapshot | None]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one gauge; called at each scrape."""
        shares = GaugeMetricFamily(
            "ranker_experiment_arm_share", "Planned share of an experiment's units.", labels=["experiment", "variant"]
        )
        snapshot = self._snapshot()
        for layer in snapshot.config.layers if snapshot is not None else ():
            for experiment in layer.experiments:
                if experiment.status == "running":
                    for arm in experiment.arms:
                        planned = sum(stop - start for start, stop in arm.buckets) / BUCKETS
                        shares.add_metric([experiment.key, arm.key], planned)
        yield shares
