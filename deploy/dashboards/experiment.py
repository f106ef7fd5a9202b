"""Is each arm served, as planned and alike, and is every exposure kept?"""

from __future__ import annotations

from deploy.dashboards.panels import RANK, Board, Panel, Query, Row, one, quantile, rate, zero_where_none

EXPERIMENT = Board(
    "experiment",
    "Ranker: experiments",
    "Is each arm served, as planned and alike, and is every exposure kept? Outcomes belong to the analysis.",
    (
        Row(
            "In force",
            (
                Panel(
                    "Experiment file",
                    "Revision and digest; more than one means that replicas differ.",
                    one("sum by (revision, digest) (ranker_experiments_info)", "{{revision}} {{digest}}"),
                    kind="names",
                ),
                Panel(
                    "Accepted",
                    "Time since the file was last in force.",
                    one("time() - min (ranker_experiments_last_success_timestamp_seconds)", "age"),
                    "s",
                    "stat",
                ),
                Panel(
                    "Reloads",
                    "Attempts to load the file, by result.",
                    one("sum by (result) (ranker_experiments_reload_total)", "{{result}}"),
                    kind="stat",
                ),
            ),
        ),
        Row(
            "Arms",
            (
                Panel(
                    "Assignments",
                    "Decisions by arm, per second.",
                    one(
                        rate("ranker_assignments_total", "experiment, variant", 'reason="split"'),
                        "{{experiment}}:{{variant}}",
                    ),
                    "reqps",
                ),
                Panel(
                    "Share of each arm",
                    "Share of requests in the last hour, with the planned share; heavy users can cause a difference.",
                    (
                        Query("arm:ranker_assignments:share1h", "{{experiment}}:{{variant}}"),
                        Query(
                            "max by (experiment, variant) (ranker_experiment_arm_share)",
                            "{{experiment}}:{{variant}} planned",
                        ),
                    ),
                    "percentunit",
                    top=1,
                ),
                Panel(
                    "Why",
                    "Decisions by layer and reason: split, override, holdout, unallocated, inactive ...",
                    one(rate("ranker_assignments_total", "layer, reason"), "{{layer}} {{reason}}"),
                    "reqps",
                ),
            ),
        ),
        Row(
            "Exposures",
            (
                Panel(
                    "Exposures by arm",
                    "Recorded, per second.",
                    one(rate("ranker_exposures_total", "experiment, variant"), "{{experiment}}:{{variant}}"),
                    "ops",
                ),
                Panel(
                    "Lost by arm",
                    "Share of exposures dropped in the last 15 minutes; uneven loss is bias.",
                    one("arm:ranker_exposures_dropped:ratio15m", "{{experiment}}:{{variant}}"),
                    "percentunit",
                ),
                Panel(
                    "Streams",
                    "Events that wait to be written to Redis.",
                    one("sum by (stream) (ranker_stream_queue_depth)", "{{stream}}"),
                ),
                Panel(
                    "Feedback",
                    "Through POST /feedback, by action.",
                    one(rate("ranker_feedback_total", "action"), "{{action}}"),
                    "ops",
                ),
            ),
        ),
        Row(
            "Sink: from streams to Parquet",
            (
                Panel(
                    "Behind",
                    "Age of the oldest event that is not in Parquet yet.",
                    one("max by (table) (ranker_sink_lag_seconds)", "{{table}}"),
                    "s",
                ),
                Panel(
                    "Waiting",
                    "Events that are not in Parquet yet.",
                    one("max by (table) (ranker_sink_lag_entries)", "{{table}}"),
                ),
                Panel(
                    "Written",
                    "Rows, per second.",
                    one(rate("ranker_sink_rows_total", "table"), "{{table}}"),
                    "ops",
                ),
                Panel(
                    "Rejected, lost, failed",
                    "Damaged events, events removed before they were written, and failed tries, per second.",
                    (
                        Query(rate("ranker_sink_rejected_total", "table, kind"), "{{table}} rejected: {{kind}}"),
                        Query(rate("ranker_sink_lost_total", "table"), "{{table}} lost"),
                        Query(rate("ranker_sink_failures_total", "table, step"), "{{table}} failed: {{step}}"),
                    ),
                    "ops",
                ),
            ),
        ),
        Row(
            "The arms should differ only in the model",
            (
                Panel(
                    "Errors by arm",
                    "Share of rankings answered with 5xx.",
                    one(
                        zero_where_none(
                            rate("ranker_requests_total", "variant", f'{RANK},status=~"5.."'),
                            rate("ranker_requests_total", "variant", RANK),
                        ),
                        "{{variant}}",
                    ),
                    "percentunit",
                ),
                Panel(
                    "Degraded by arm",
                    "Share of rankings that went without something.",
                    one(
                        zero_where_none(
                            rate("ranker_rankings_total", "variant", 'outcome="degraded"'),
                            rate("ranker_rankings_total", "variant"),
                        ),
                        "{{variant}}",
                    ),
                    "percentunit",
                ),
                Panel(
                    "p99 by arm",
                    "A slower arm also changes user behaviour by its latency.",
                    one(quantile(0.99, "ranker_request_duration_seconds", "variant", RANK), "{{variant}}"),
                    "s",
                ),
                Panel(
                    "Rankings by arm",
                    "POST /rank, per second.",
                    one(rate("ranker_requests_total", "variant", RANK), "{{variant}}"),
                    "reqps",
                ),
            ),
        ),
    ),
)
