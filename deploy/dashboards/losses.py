"""The row of losses: what was refused, trimmed, dropped, evicted or restarted."""

from __future__ import annotations

from deploy.dashboards.panels import Panel, Query, Row, of_service, one, rate, total

LOSSES = Row(
    "Losses: all of these should be flat",
    (
        Panel(
            "Histories",
            "Behaviours refused, usable ones trimmed, keys evicted, writes that no replica confirmed.",
            (
                Query(total("ranker_behaviours_refused_total"), "refused"),
                Query(total("ranker_behaviours_trimmed_total", 'kind="usable"'), "trimmed"),
                Query(total("ranker_redis_evicted_keys_total"), "keys evicted"),
                Query(total("ranker_store_unconfirmed_total"), "unconfirmed"),
            ),
            "ops",
            runbook=(
                "RankerKeysEvicted",
                "RankerBehavioursRefused",
                "RankerStoreUnconfirmed",
            ),
        ),
        Panel(
            "Unusable histories",
            "Rankings of users with a history of which the model can use nothing.",
            one(rate("ranker_history_unused_total", "reason"), "{{reason}}"),
            "ops",
        ),
        Panel(
            "Events",
            "Events that were dropped, trimmed from their stream, or damaged in the spool.",
            (
                Query(f"{total('ranker_exposures_dropped_total')} or vector(0)", "exposures dropped"),
                Query(total("ranker_feedback_dropped_total"), "feedback dropped"),
                Query(f"{total('ranker_rankings_dropped_total')} or vector(0)", "rankings dropped"),
                Query(total("ranker_stream_trimmed_total"), "trimmed"),
                Query(total("ranker_spool_damaged_total"), "damaged"),
            ),
            "ops",
            runbook=(
                "RankerExposuresDropped",
                "RankerFeedbackDropped",
                "RankerRankingsDropped",
                "RankerSpoolDamaged",
            ),
        ),
        Panel(
            "Memory of Redis",
            "Memory of the fullest server, as a share of its maxmemory.",
            one(f"max by (redis) ({of_service('ranker_redis_memory_ratio')})", "{{redis}}"),
            "percentunit",
            top=1,
            runbook=(
                "RankerRedisNearlyFull",
                "RankerKeysEvicted",
            ),
        ),
        Panel(
            "Log and tasks",
            "Dropped log lines, and background tasks and workers restarted after an error.",
            (
                Query(total("ranker_log_lines_dropped_total"), "log lines dropped"),
                Query(total("ranker_task_restarts_total"), "tasks restarted"),
                Query(total("ranker_worker_restarts_total"), "workers restarted"),
            ),
            "ops",
            runbook=(
                "RankerLogLinesDropped",
                "RankerTaskRestarts",
                "RankerWorkerRestarts",
            ),
        ),
        Panel(
            "Replicas in agreement",
            "1 if the experiment file of every process is in force, and all share its state.",
            (
                Query(f"min ({of_service('ranker_experiments_file_in_force')})", "file in force"),
                Query(f"min ({of_service('ranker_experiments_state_shared')})", "state shared"),
            ),
            runbook=(
                "RankerExperimentsFileNotInForce",
                "RankerExperimentsStateNotShared",
            ),
        ),
    ),
)
