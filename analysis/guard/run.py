"""One reading of the guard: every running experiment is measured, and those that do harm are stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.guard.measure import SETTLE_MS, measure
from analysis.guard.metrics import Metrics
from analysis.guard.rails import Finding, find
from analysis.guard.stop import read, stop
from analysis.sink.log import log
from analysis.tables.database import Resources, database
from contract.command_line import CommandError, one_line


@dataclass(frozen=True)
class Rules:
    """How the guard reads and decides.

    Args:
        window_ms: length of a unit's window.
        planned: units in both arms at which the test is sharpest.
        alpha: the chance to stop a harmless experiment, at all readings together.
        settle_ms: how long after its window a unit counts.
        dry_run: only log.
    """

    window_ms: int
    planned: int
    alpha: float
    settle_ms: int = SETTLE_MS
    dry_run: bool = False


def read_once(data: Path, file: Path, rules: Rules, now_ms: int, metrics: Metrics | None = None) -> list[str]:
    """Stop the running experiments of a file that do harm; return their keys.

    Args:
        data: folder that the sink writes.
        file: of the experiments.
        rules: how to decide.
        now_ms: the time of the reading.
        metrics: counts.

    Raises:
        CommandError: the experiments file or a Parquet file is damaged.
    """
    counts = metrics or Metrics()
    _, config = read(file)
    running = [one.key for layer in config.layers for one in layer.experiments if one.status == "running"]
    harmful: list[str] = []
    findings: list[tuple[str, Finding]] = []
    for key in running:
        counts.watches(key)
        found = _findings(data, key, rules, now_ms)
        findings += [(key, finding) for finding in found]
        reasons = [f"{finding.treatment}:{finding.rail}" for finding in found if finding.is_harm]
        if not reasons:
            continue
        harmful.append(key)
        if not rules.dry_run and stop(file, key):
            counts.stopped(key)
            log("guard_stopped", "warning", experiment=key, file=str(file), guardrails=reasons)
    counts.found(findings)
    return harmful


def _findings(data: Path, key: str, rules: Rules, now_ms: int) -> list[Finding]:
    """Test the guardrails of an experiment and log them; there are none while it has no exposures."""
    try:
        with database(Resources()) as opened:
            arms = measure(opened, data, key, rules.window_ms, now_ms, rules.settle_ms)
    except CommandError as error:
        if "has no exposures" not in str(error):
            raise
        log("guard_waits", experiment=key, reason=one_line(str(error)))
        return []
    findings = find(arms, planned=rules.planned, alpha=rules.alpha)
    for finding in findings:
        _tell(key, finding)
    return findings


def _tell(key: str, finding: Finding) -> None:
    log(
        "guard_read", "warning" if finding.is_harm else "info", experiment=key, guardrail=finding.rail,
        treatment=finding.treatment, is_harm=finding.is_harm, harm=round(finding.harm, 6),
        at_least=round(finding.bound, 6) if finding.bound > float("-inf") else None,
        units=finding.control.n + finding.treated.n, control=round(finding.control.mean, 6),
        treated=round(finding.treated.mean, 6),
    )  # fmt: skip
