"""Is each arm served, as planned and alike, and is every exposure kept?"""

from __future__ import annotations

from deploy.dashboards.analysis import REPORT, SINK
from deploy.dashboards.canaries import CANARIES
from deploy.dashboards.panels import (
    EXPERIMENTS,
    INSTANCES,
    OF_EXPERIMENT,
    RANK,
    VARIANT,
    Board,
    Panel,
    Query,
    Row,
    of_service,
    one,
    quantile,
    rate,
    zero_where_none,
)

_PLANNED = of_service("ranker_experiment_arm_share", OF_EXPERIMENT)

EXPERIMENT = Board(
    "experiment",
    "Ranker: experiments",
    "Is each arm served, as planned and alike, is every exposure kept, and what does the newest report find?",
    (
        Row(
            "In force",
            (
                Panel(
                    "Experiment file",
                    "Revision and digest; more than one means that replicas differ.",
                    one(
                        f"sum by (revision, digest) ({of_service('ranker_experiments_info')})",
                        "{{revision}} {{digest}}",
                    ),
                    kind="names",
                    runbook=("RankerExperimentsDiffer",),
                ),
                Panel(
                    "Accepted",
                    "Time since the file was last in force.",
                    one(f"time() - min ({of_service('ranker_experiments_last_success_timestamp_seconds')})", "age"),
                    "s",
                    "stat",
                    runbook=("RankerExperimentsNotReloading",),
                ),
                Panel(
                    "Reloads",
                    "Attempts to load the file, by result.",
                    one(f"sum by (result) ({of_service('ranker_experiments_reload_total')})", "{{result}}"),
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
                        rate("ranker_assignments_total", "experiment, variant", 'reason="split"', OF_EXPERIMENT),
                        "{{experiment}}:{{variant}}",
                    ),
                    "reqps",
                ),
                Panel(
                    "Share of each arm",
                    "Share of requests in the last hour, with the planned share; heavy users can cause a difference.",
                    (
                        Query(f"arm:ranker_assignments:share1h{{{OF_EXPERIMENT}}}", "{{experiment}}:{{variant}}"),
                        Query(
                            f"max by (experiment, variant) ({_PLANNED})",
                            "{{experiment}}:{{variant}} planned",
                        ),
                    ),
                    "percentunit",
                    top=1,
                    runbook=("RankerSampleRatio",),
                ),
                Panel(
                    "Why",
                    "Decisions by layer and reason: split, override, holdout, unallocated, inactive ...",
                    one(rate("ranker_assignments_total", "layer, reason"), "{{layer}} {{reason}}"),
                    "reqps",
                ),
            ),
        ),
        CANARIES,
        *REPORT,
        Row(
            "Exposures",
            (
                Panel(
                    "Exposures by arm",
                    "Recorded, per second.",
                    one(
                        rate("ranker_exposures_total", "experiment, variant", OF_EXPERIMENT),
                        "{{experiment}}:{{variant}}",
                    ),
                    "ops",
                ),
                Panel(
                    "Lost by arm",
                    "Share of exposures dropped in the last 15 minutes; uneven loss is bias.",
                    one(f"arm:ranker_exposures_dropped:ratio15m{{{OF_EXPERIMENT}}}", "{{experiment}}:{{variant}}"),
                    "percentunit",
                    runbook=(
                        "RankerExposuresDropped",
                        "RankerExposuresDroppedUnevenly",
                    ),
                ),
                Panel(
                    "Streams",
                    "Events that wait to be written to Redis.",
                    one(f"sum by (stream) ({of_service('ranker_stream_queue_depth')})", "{{stream}}"),
                    runbook=("RankerEventsWaiting",),
                ),
                Panel(
                    "Feedback",
                    "Through POST /feedback, by action.",
                    one(rate("ranker_feedback_total", "action"), "{{action}}"),
                    "ops",
                    runbook=(
                        "RankerFeedbackDropped",
                        "RankerFeedbackRefused",
                    ),
                ),
            ),
        ),
        SINK,
        Row(
            "The arms should differ only in the model",
            (
                Panel(
                    "Errors by arm",
                    "Share of rankings answered with 5xx.",
                    one(
                        zero_where_none(
                            rate("ranker_requests_total", "variant", RANK, VARIANT, 'status=~"5.."'),
                            rate("ranker_requests_total", "variant", RANK, VARIANT),
                        ),
                        "{{variant}}",
                    ),
                    "percentunit",
                    runbook=("RankerErrors",),
                ),
                Panel(
                    "Degraded by arm",
                    "Share of rankings that went without something.",
                    one(
                        zero_where_none(
                            rate("ranker_rankings_total", "variant", VARIANT, 'outcome="degraded"'),
                            rate("ranker_rankings_total", "variant", VARIANT),
                        ),
                        "{{variant}}",
                    ),
                    "percentunit",
                    runbook=("RankerDegraded",),
                ),
                Panel(
                    "p99 by arm",
                    "A slower arm also changes user behaviour by its latency.",
                    one(quantile(0.99, "ranker_request_duration_seconds", "variant", RANK, VARIANT), "{{variant}}"),
                    "s",
                    runbook=("RankerSlow",),
                ),
                Panel(
                    "Rankings by arm",
                    "POST /rank, per second.",
                    one(rate("ranker_requests_total", "variant", RANK, VARIANT), "{{variant}}"),
                    "reqps",
                ),
            ),
        ),
    ),
    (INSTANCES, EXPERIMENTS),
)
