"""What the engine is given, what it costs, and what runs where."""

from __future__ import annotations

from deploy.dashboards.panels import Board, Panel, Row, one, percentiles, rate, total

MODELS = 'bundle!="store"'  # reads of the store are batched as well, and counted under this name
_CACHE_HITS = total("ranker_state_cache_total", 'result="hit"')

INFERENCE = Board(
    "inference",
    "Ranker: inference",
    "What the engine is given, what it costs, and what runs where.",
    (
        Row(
            "What is served",
            (
                Panel(
                    "Bundles and providers",
                    "The provider that truly runs, not the one that was asked for.",
                    one("sum by (bundle, provider) (ranker_bundle_info)", "{{bundle}} on {{provider}}"),
                    kind="names",
                ),
                Panel(
                    "Bundles loaded",
                    "Loads by result: a refused bundle leaves the last good one in place.",
                    one("sum by (result) (ranker_bundle_load_total)", "{{result}}"),
                    kind="stat",
                ),
                Panel(
                    "Engine failures",
                    "Failed runs, by bundle; the batch is split and only the guilty row fails.",
                    one(rate("ranker_engine_failures_total", "bundle"), "{{bundle}}"),
                    "ops",
                ),
            ),
        ),
        Row(
            "Batches and queue",
            (
                Panel(
                    "Users a batch",
                    "A batch is what queued while the last one ran.",
                    percentiles("ranker_batch_rows", MODELS),
                ),
                Panel(
                    "Candidates a batch", "Over all users of the batch.", percentiles("ranker_batch_candidates", MODELS)
                ),
                Panel(
                    "Queue",
                    "Rankings that wait, by bundle.",
                    one("sum by (bundle) (ranker_queue_depth)", "{{bundle}}"),
                ),
                Panel(
                    "Waiting",
                    "Time in the queue: the first to grow when capacity runs out.",
                    percentiles("ranker_stage_duration_seconds", 'stage="queue"'),
                    "s",
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
                ),
                Panel(
                    "Score",
                    "All candidates of a batch.",
                    percentiles("ranker_stage_duration_seconds", 'stage="score"'),
                    "s",
                ),
                Panel(
                    "State cache",
                    "Look-ups, by result.",
                    one(rate("ranker_state_cache_total", "result"), "{{result}}"),
                    "ops",
                ),
                Panel(
                    "State cache hits",
                    "Share of rankings whose user was encoded before.",
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
                Panel("Candidates a ranking", "As the caller sent them.", percentiles("ranker_candidates")),
                Panel("Behaviours a ranking", "As the model read them.", percentiles("ranker_sequence_length")),
                Panel(
                    "Unknown items",
                    "Behaviours and candidates that the bundle has never seen: a bundle that ages.",
                    one(rate("ranker_unknown_items_total", "kind"), "{{kind}}"),
                    "ops",
                ),
            ),
        ),
        Row(
            "Process",
            (
                Panel(
                    "CPU",
                    "Cores in use.",
                    one(rate("process_cpu_seconds_total", "instance", 'job="ranker"'), "{{instance}}"),
                ),
                Panel(
                    "Memory",
                    "Resident, all sessions and caches included.",
                    one('sum by (instance) (process_resident_memory_bytes{job="ranker"})', "{{instance}}"),
                    "bytes",
                ),
                Panel(
                    "Open files",
                    "Connections are files too.",
                    one('sum by (instance) (process_open_fds{job="ranker"})', "{{instance}}"),
                ),
            ),
        ),
    ),
)
