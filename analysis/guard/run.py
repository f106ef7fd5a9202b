"""One reading of the guard: every running experiment is measured, and those that do harm are stopped."""

from __future__ import annotations

from pathlib import Path

from analysis.guard.measure import measure
from analysis.guard.rails import Finding, find
from analysis.guard.stop import read, stop
from analysis.sink.log import log
from analysis.tables.database import Resources, database
from contract.command_line import CommandError, one_line


def read_once(
    data: Path, file: Path, *, window_ms: int, now_ms: int, planned: int, alpha: float, dry_run: bool = False
) -> list[str]:
    """Stop the running experiments of a file that do harm; return their keys.

    Args:
        data: folder that the sink writes.
        file: of the experiments.
        window_ms: length of a unit's window.
        now_ms: the time of the reading.
        planned: units in both arms at which the test is sharpest.
        alpha: the chance to stop a harmless experiment, at all readings together.
        dry_run: only log.

    Raises:
        CommandError: the experiments file or a Parquet file is damaged.
    """
    _, config = read(file)
    running = [one.key for layer in config.layers for one in layer.experiments if one.status == "running"]
    harmful = [key for key in running if _is_harmful(data, key, window_ms, now_ms, planned, alpha)]
    for key in harmful if not dry_run else ():
        stop(file, key)
        log("guard_stopped", "warning", experiment=key, file=str(file))
    return harmful


def _is_harmful(data: Path, key: str, window_ms: int, now_ms: int, planned: int, alpha: float) -> bool:
    try:
        with database(Resources()) as opened:
            arms = measure(opened, data, key, window_ms, now_ms)
    except CommandError as error:
        if "has no exposures" not in str(error):
            raise
        log("guard_waits", experiment=key, reason=one_line(str(error)))
        return False
    findings = find(arms, planned=planned, alpha=alpha)
    for finding in findings:
        _tell(key, finding)
    return any(finding.is_harm for finding in findings)


def _tell(key: str, finding: Finding) -> None:
    log(
        "guard_read", "warning" if finding.is_harm else "info", experiment=key, guardrail=finding.rail,
        treatment=finding.treatment, is_harm=finding.is_harm, harm=round(finding.harm, 6),
        at_least=round(finding.bound, 6) if finding.bound > float("-inf") else None,
        units=finding.control.n + finding.treated.n, control=round(finding.control.mean, 6),
        treated=round(finding.treated.mean, 6),
    )  # fmt: skip
