"""The row of canaries: how far a ramp is, and whether the guard would stop it."""

from __future__ import annotations

from deploy.dashboards.panels import OF_EXPERIMENT, Panel, Query, Row, of_service, one

_RAIL = "experiment, treatment, guardrail"

CANARIES = Row(
    "Ramps and the guard (docs/guard.md)",
    (
        Panel(
            "Users reached",
            "Share of a running experiment's users that its ramp has reached.",
            one(f"max by (experiment) ({of_service('ranker_experiment_ramp_share', OF_EXPERIMENT)})", "{{experiment}}"),
            "percentunit",
            top=1,
        ),
        Panel(
            "Certain harm",
            "The harm beyond the allowed amount is at least this; above 0 the guard stops the experiment.",
            one(
                f"max by ({_RAIL}) (ranker_guard_harm_at_least{{{OF_EXPERIMENT}}})",
                "{{experiment}}:{{treatment}} {{guardrail}}",
            ),
            signed=True,
            runbook=("RankerGuardStopped",),
        ),
        Panel(
            "Measured harm",
            "Harm beyond the allowed amount, as measured; it varies while there are few users.",
            one(
                f"max by ({_RAIL}) (ranker_guard_harm{{{OF_EXPERIMENT}}})", "{{experiment}}:{{treatment}} {{guardrail}}"
            ),
            signed=True,
        ),
        Panel(
            "Age of the last reading",
            "Time since a guard read the events.",
            one("time() - max by (instance) (ranker_guard_last_reading_timestamp_seconds)", "{{instance}}"),
            "s",
            runbook=("RankerGuardBlind", "RankerGuardDown"),
        ),
        Panel(
            "Stopped",
            "Experiments that a guard stopped since it started.",
            (
                Query(f"sum by (experiment) (ranker_guard_stops_total{{{OF_EXPERIMENT}}})", "{{experiment}}"),
                Query('sum (ranker_guard_readings_total{result="failed"})', "failed readings"),
            ),
            kind="stat",
            runbook=("RankerGuardStopped", "RankerGuardBlind"),
        ),
    ),
)
