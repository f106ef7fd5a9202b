"""Rows on the analysis: the newest report, and the sink before it."""

from __future__ import annotations

from typing import Final

from deploy.dashboards.panels import OF_EXPERIMENT, Panel, Query, Row, one


def of_sink(counter: str, by: str) -> str:
    """Return the per-second rate of a counter of the sink, summed by labels."""
    return f"sum by ({by}) (rate({counter}[$__rate_interval]))"


REPORT: Final = (
    Row(
        "Newest report of the analysis (RANKER_SINK__REPORTS, docs/sink.md)",
        (
            Panel(
                "Verdict",
                "Verdict of the newest report; read the report itself before you decide.",
                one(
                    f"max by (experiment, verdict) (ranker_report_info{{{OF_EXPERIMENT}}})",
                    "{{experiment}}: {{verdict}}",
                ),
                kind="names",
            ),
            Panel(
                "Age of the report",
                "Time since it was written.",
                one(
                    f"time() - max by (experiment) (ranker_report_timestamp_seconds{{{OF_EXPERIMENT}}})",
                    "{{experiment}}",
                ),
                "s",
                "stat",
            ),
            Panel(
                "Gates",
                "Reasons to distrust every lift: gates that block, warn, or cannot be judged.",
                one(
                    f'sum by (experiment, state) (ranker_report_gates{{state=~"block|warn|unknown", {OF_EXPERIMENT}}})',
                    "{{experiment}} {{state}}",
                ),
                kind="stat",
                runbook=("RankerSampleRatio", "RankerExposuresDroppedUnevenly"),
            ),
            Panel(
                "Users analysed",
                "Users of each arm whose window is complete.",
                one(
                    f'max by (experiment, arm) (ranker_report_users{{state="analysed", {OF_EXPERIMENT}}})',
                    "{{experiment}}:{{arm}}",
                ),
                kind="stat",
            ),
        ),
    ),
    Row(
        "Results in the report",
        (
            Panel(
                "Primary metrics",
                "Lift and its 95% interval, from report to report. Empty while the report is not readable.",
                one(
                    f'max by (experiment, arm, metric, bound) (ranker_report_lift{{role="primary", {OF_EXPERIMENT}}})',
                    "{{metric}} {{arm}}, {{bound}}",
                ),
                "percentunit",
                signed=True,
            ),
            Panel(
                "Guardrails and secondary metrics",
                "Lifts without their intervals, which the report has.",
                one(
                    f"max by (experiment, arm, metric) "
                    f'(ranker_report_lift{{role!="primary", bound="point", {OF_EXPERIMENT}}})',
                    "{{metric}} {{arm}}",
                ),
                "percentunit",
                "stat",
                signed=True,
            ),
        ),
    ),
)

SINK: Final = Row(
    "Sink: from streams to Parquet",
    (
        Panel(
            "Behind",
            "Age of the oldest event that is not in Parquet yet.",
            one("max by (table) (ranker_sink_lag_seconds)", "{{table}}"),
            "s",
            runbook=(
                "RankerSinkBehind",
                "RankerSinkDown",
            ),
        ),
        Panel(
            "Waiting",
            "Events that are not in Parquet yet.",
            one("max by (table) (ranker_sink_lag_entries)", "{{table}}"),
        ),
        Panel(
            "Written",
            "Rows, per second.",
            one(of_sink("ranker_sink_rows_total", "table"), "{{table}}"),
            "ops",
        ),
        Panel(
            "Rejected, lost, failed",
            "Damaged events, events removed before they were written, and failed tries, per second.",
            (
                Query(of_sink("ranker_sink_rejected_total", "table, kind"), "{{table}} rejected: {{kind}}"),
                Query(of_sink("ranker_sink_lost_total", "table"), "{{table}} lost"),
                Query(of_sink("ranker_sink_failures_total", "table, step"), "{{table}} failed: {{step}}"),
            ),
            "ops",
            runbook=(
                "RankerSinkRejects",
                "RankerSinkLost",
                "RankerSinkFailing",
            ),
        ),
    ),
)
