"""Load, cost and location of inference."""

from __future__ import annotations

from deploy.dashboards.drift import DRIFT
from deploy.dashboards.panels import (
    INSTANCES,
    MODEL,
    MODELS,
    Board,
    Panel,
    Query,
    Row,
    of_service,
    one,
    percentiles,
    rate,
    total,
)
from deploy.dashboards.shadows import SHADOWS

JOB = 'job="ranker"'
_CACHE_HITS = total("ranker_state_cache_total", 'result="hit"')

INFERENCE = Board(
    "inference",
    "Ranker: inference",
    "Load, cost and location of inference.",
    (
        Row(
            "Served bundles",
            (
                Panel(
                    "Bundles and providers",
                    "The provider that runs, not the configured one.",
                    one(
                        f"sum by (bundle, provider) ({of_service('ranker_bundle_info', MODEL)})",
                        "{{bundle}} on {{provider}}",
                    ),
                    kind="names",
                    runbook=("RankerBundleMissing",),
                ),
                Panel(
                    "Bundles loaded",
                    "Loads by result: a refused bundle leaves the last good one in place.",
                    one(f"sum by (result) ({of_service('ranker_bundle_load_total')})", "{{result}}"),
                    kind="stat",
                    runbook=("RankerBundleMissing", "RankerBundleRefused"),
                ),
                Panel(
                    "Engine failures",
                    "Failed runs, by bundle; the batch is split and only the failing row gets an error.",
                    one(rate("ranker_engine_failures_total", "bundle", MODEL), "{{bundle}}"),
                    "ops",
                    runbook=("RankerEngineFailing",),
                ),
            ),
        ),
        Row(
            "Batches and queue",
            (
                Panel(
                    "Users per batch",
                    "A batch is the requests that queued while the previous one ran.",
                    percentiles("ranker_batch_rows", MODEL),
                ),
                Panel(
                    "Candidates per batch",
                    "Over all users of the batch.",
                    percentiles("ranker_batch_candidates", MODEL),
                ),
                Panel(
                    "Queue",
                    "Rankings that wait, by bundle.",
                    one(f"sum by (bundle) ({of_service('ranker_queue_depth', MODEL)})", "{{bundle}}"),
                    runbook=("RankerRefusing",),
                ),
                Panel(
                    "Waiting",
                    "Time in the queue: the first to grow when capacity runs out.",
                    percentiles("ranker_stage_duration_seconds", 'stage="queue"'),
                    "s",
                    runbook=("RankerSlow",),
                ),
                Panel(
                    "Waiting for the event loop",
                    "Time that ready work waited for the event loop: grows when a process's core is full.",
                    (
                        *percentiles("ranker_event_loop_wait_seconds"),
                        Query(
                            f"{total('ranker_event_loop_wait_seconds_sum')} / "
                            f"{total('ranker_event_loop_wait_seconds_count')}",
                            "mean",
                        ),
                    ),
                    "s",
                    runbook=("RankerSlow",),
                ),
            ),
        ),
        Row(
            "Engine",
            (
                Panel(
                    "Encode",
                    "One user state for each user of a batch that the cache did not have.",
                    percentiles("ranker_stage_duration_seconds", 'stage="encode"'),
                    "s",
                    runbook=("RankerBundleSlow",),
                ),
                Panel(
                    "Score",
                    "All candidates of a batch.",
                    percentiles("ranker_stage_duration_seconds", 'stage="score"'),
                    "s",
                    runbook=("RankerBundleSlow",),
                ),
                Panel(
                    "State cache",
                    "Look-ups, by result.",
                    one(rate("ranker_state_cache_total", "result"), "{{result}}"),
                    "ops",
                ),
                Panel(
                    "State cache hits",
                    "Share of rankings with a cached user state.",
                    one(
                        f"{_CACHE_HITS} / {total('ranker_state_cache_total')}",
                        "hits",
                    ),
                    "percentunit",
                    top=1,
                ),
            ),
        ),
        Row(
            "Input",
            (
                Panel("Candidates per ranking", "As sent by the caller.", percentiles("ranker_candidates")),
                Panel("Behaviours per ranking", "As read by the model.", percentiles("ranker_sequence_length")),
                Panel(
                    "Unknown items",
                    "Behaviours and candidates that the bundle does not know: the share grows as the bundle ages.",
                    one(rate("ranker_unknown_items_total", "kind"), "{{kind}}"),
                    "ops",
                ),
            ),
        ),
        DRIFT,
        SHADOWS,
        Row(
            "Process",
            (
                Panel(
                    "CPU",
                    "Cores in use.",
                    one(rate("process_cpu_seconds_total", "instance", JOB), "{{instance}}"),
                ),
                Panel(
                    "Memory",
                    "Resident, all sessions and caches included.",
                    one(f"sum by (instance) ({of_service('process_resident_memory_bytes', JOB)})", "{{instance}}"),
                    "bytes",
                ),
                Panel(
                    "Open files",
                    "Connections are files too.",
                    one(f"sum by (instance) ({of_service('process_open_fds', JOB)})", "{{instance}}"),
                ),
                Panel(
                    "Garbage collection",
                    "Share of the time in which a collection stops the process.",
                    one(rate("ranker_gc_pause_seconds_sum", "instance"), "{{instance}}"),
                    "percentunit",
                ),
            ),
        ),
    ),
    (INSTANCES, MODELS),
)
