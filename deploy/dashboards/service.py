"""Are callers answered, how fast, and how well?"""

from __future__ import annotations

from deploy.dashboards.losses import LOSSES
from deploy.dashboards.panels import (
    EXPERIMENTS,
    INSTANCES,
    RANK,
    VARIANT,
    Board,
    Panel,
    Query,
    Row,
    burn,
    latencies,
    of_service,
    one,
    percentiles,
    quantile,
    rate,
    total,
    zero_where_none,
)

_ACCESS_FILE = "ranker_access_last_success_timestamp_seconds"
_REQUESTS = total("ranker_requests_total", RANK)

SERVICE = Board(
    "service",
    "Ranker: service",
    "Are callers answered, how fast, and how well?",
    (
        Row(
            "Now",
            (
                Panel(
                    "Ready",
                    "Processes that accept requests.",
                    one(f"sum ({of_service('ranker_ready')})", "ready"),
                    kind="stat",
                    runbook=(
                        "RankerNotReady",
                        "RankerTargetDown",
                    ),
                ),
                Panel("Rankings", "POST /rank, per second.", one(_REQUESTS, "rankings"), "reqps", "stat"),
                Panel(
                    "Errors",
                    "Share of rankings answered with 5xx.",
                    one(zero_where_none(total("ranker_requests_total", RANK, 'status=~"5.."'), _REQUESTS), "errors"),
                    "percentunit",
                    "stat",
                    runbook=("RankerErrors",),
                ),
                Panel(
                    "p99",
                    "One ranking in 100 took longer.",
                    one(quantile(0.99, "ranker_request_duration_seconds", "", RANK), "p99"),
                    "s",
                    "stat",
                    runbook=("RankerSlow",),
                ),
                Panel(
                    "Degraded",
                    "Share of rankings that are marked as degraded.",
                    one(f"{total('ranker_degraded_total')} / {_REQUESTS}", "degraded"),
                    "percentunit",
                    "stat",
                    runbook=("RankerDegraded",),
                ),
                Panel(
                    "Redis",
                    "1 while it answers every process.",
                    one(f"min ({of_service('ranker_store_up')})", "up"),
                    kind="stat",
                    runbook=("RankerStoreDown",),
                ),
            ),
        ),
        Row(
            "Objectives: 1 spends the error budget in 30 days, 14.4 pages",
            (
                burn("Failed requests", "route:ranker_failures:ratio1h / 0.001", "{{route}}", "RankerErrors"),
                burn("Slow rankings", "job:ranker_slow:ratio1h / 0.01", "slow", "RankerSlow"),
                burn("Degraded rankings", "reason:ranker_degraded:ratio1h / 0.01", "{{reason}}", "RankerDegraded"),
                burn(
                    "Refused behaviours",
                    "reason:ranker_behaviours_refused:ratio1h / 0.01",
                    "{{reason}}",
                    "RankerBehavioursRefused",
                ),
            ),
        ),
        Row(
            "Requests",
            (
                Panel(
                    "Rankings by status",
                    "POST /rank, per second.",
                    one(rate("ranker_requests_total", "status", RANK), "{{status}}"),
                    "reqps",
                ),
                Panel(
                    "Requests by route",
                    "All routes, per second.",
                    one(rate("ranker_requests_total", "route"), "{{route}}"),
                    "reqps",
                ),
                Panel(
                    "Errors by route",
                    "Share of answers with 5xx.",
                    one(
                        zero_where_none(
                            rate("ranker_requests_total", "route", 'status=~"5.."'),
                            rate("ranker_requests_total", "route"),
                        ),
                        "{{route}}",
                    ),
                    "percentunit",
                    runbook=("RankerErrors",),
                ),
                Panel(
                    "Refused",
                    "Refused requests, by reason.",
                    one(rate("ranker_rejected_total", "reason"), "{{reason}}"),
                    "reqps",
                    runbook=("RankerRefusing",),
                ),
                Panel(
                    "In flight",
                    "Requests in progress.",
                    one(f"sum by (instance) ({of_service('ranker_inflight_requests')})", "{{instance}}"),
                ),
            ),
        ),
        Row(
            "Callers",
            (
                Panel(
                    "Requests by caller",
                    "Callers with an API key, per second; `none` has no valid key.",
                    one(rate("ranker_caller_requests_total", "caller"), "{{caller}}"),
                    "reqps",
                ),
                Panel(
                    "Refused callers",
                    "No valid key, no scope, quota used up, or no room, by caller.",
                    one(
                        rate(
                            "ranker_caller_requests_total",
                            "caller, outcome",
                            'outcome=~"unauthorized|forbidden|over_quota|overloaded"',
                        ),
                        "{{caller}}: {{outcome}}",
                    ),
                    "reqps",
                    runbook=("RankerUnauthorized",),
                ),
                Panel(
                    "Age of the access file",
                    "Time since the file was last found to be in force; it rises while a new file is refused.",
                    one(
                        f"max by (instance) (time() - ({of_service(_ACCESS_FILE)} > 0))",
                        "{{instance}}",
                    ),
                    "s",
                    runbook=("RankerAccessNotReloading",),
                ),
            ),
        ),
        Row("Latency by stage", latencies("Stages", "ranker_stage_duration_seconds", "stage")),
        Row("Latency by arm", latencies("Rankings", "ranker_request_duration_seconds", "variant", RANK, VARIANT)),
        Row(
            "Degraded answers and Redis",
            (
                Panel(
                    "Degraded",
                    "Degraded answers, by reason.",
                    one(rate("ranker_degraded_total", "reason"), "{{reason}}"),
                    "reqps",
                ),
                Panel(
                    "Redis reached",
                    "0 = every read, write or event fails; servers with an open breaker, which get only probes.",
                    (
                        Query(f"min by (kind) ({of_service('ranker_store_up')})", "{{kind}} up"),
                        Query(f"max by (kind) ({of_service('ranker_store_breaker_open')})", "{{kind}}: open breakers"),
                    ),
                    runbook=(
                        "RankerStoreDown",
                        "RankerStoreBreakerOpen",
                    ),
                ),
                Panel(
                    "Redis errors",
                    "Failed reads and writes, by kind.",
                    one(rate("ranker_store_errors_total", "kind"), "{{kind}}"),
                    "ops",
                    runbook=("RankerStoreDown",),
                ),
                Panel(
                    "Reading behaviours",
                    "One pipelined read for all rankings that wait together.",
                    percentiles("ranker_stage_duration_seconds", 'stage="store"'),
                    "s",
                ),
                Panel(
                    "Users per read",
                    "Rankings that shared one round trip to Redis.",
                    percentiles("ranker_batch_rows", 'bundle="store"'),
                ),
                Panel(
                    "Behaviours written",
                    "Through POST /behaviours, by result.",
                    one(rate("ranker_behaviours_written_total", "result"), "{{result}}"),
                    "ops",
                    runbook=(
                        "RankerBehavioursRefused",
                        "RankerAppendsRefused",
                    ),
                ),
            ),
        ),
        LOSSES,
    ),
    (INSTANCES, EXPERIMENTS),
)
