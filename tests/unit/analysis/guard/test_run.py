import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.guard.measure import SETTLE_MS, measure
from analysis.guard.metrics import Metrics
from analysis.guard.rails import Arm, Finding
from analysis.guard.run import Rules, read_once
from analysis.tables.database import Resources, database
from analysis.tables.schemas import SCHEMAS
from contract.command_line import CommandError
from tests.support.sink_process import NOON
from tests.unit.analysis.guard.test_stop import TEXT

HOUR = 3_600_000
NOW = NOON + 5 * HOUR


def write(folder: Path, table: str, rows: list[dict[str, Any]]) -> None:
    path = folder / table / "date=2026-11-25" / "1.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMAS[table]), path)


def exposed(unit: str, arm: str, ts: int = NOON) -> dict[str, Any]:
    return {"id": f"e-{unit}-{ts}", "ts": ts, "req": unit, "unit": unit, "layer": "rank", "exp": "first", "arm": arm,
            "reason": "split", "cfg": "c", "exp_salt": "first-salt", "forced": 0, "outcome": "ok"}  # fmt: skip


def ranked(unit: str, number: int, outcome: str, ts: int = NOON, latency: int = 1_000) -> dict[str, Any]:
    return {
        "id": f"r-{unit}-{number}",
        "ts": ts,
        "unit": unit,
        "outcome": outcome,
        "latency_us": latency,
        "reasons": [],
    }


def acted(unit: str, kind: str, number: int, ts: int = NOON, **fields: Any) -> dict[str, Any]:
    return {"id": f"a-{unit}-{number}", "ts": ts, "received": ts, "unit": unit, "type": kind, **fields}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiments.yaml"
    path.write_text(TEXT)
    return path


def fill(folder: Path, *, failing: int) -> None:
    """800 users in two arms; `failing` of 100 of the treatment's rankings fail, one of 100 of the control's."""
    exposures, rankings, activity = [], [], []
    for number in range(800):
        unit, arm = f"u{number}", ("control", "treatment")[number % 2]
        bad = number // 2 % 100 < (failing if arm == "treatment" else 1)
        exposures.append(exposed(unit, arm))
        rankings.append(ranked(unit, 0, "error" if bad else "ok", latency=1_000 + number % 7))
        activity.append(acted(unit, "play_end", 0, play_ms=1_000 * (1 + number % 5), duration_ms=9_000))
    for table, rows in (("exposures", exposures), ("rankings", rankings), ("activity", activity)):
        write(folder, table, rows)


def read(folder: Path, file: Path, now: int = NOW, metrics: Metrics | None = None, **options: Any) -> list[str]:
    rules = Rules(window_ms=HOUR, planned=1_000, alpha=0.05, **options)
    return read_once(folder / "data", file, rules, now, metrics)


def test_an_experiment_that_does_harm_is_stopped_and_no_other(tmp_path: Path, file: Path) -> None:
    fill(tmp_path / "data", failing=20)
    assert read(tmp_path, file) == ["first"]
    assert file.read_text() == TEXT.replace('status: "running" # until', 'status: "stopped" # until')
    assert read(tmp_path, file) == []  # it does not run any more


def test_the_metrics_tell_what_was_found_and_stopped(tmp_path: Path, file: Path) -> None:
    fill(tmp_path / "data", failing=20)
    metrics = Metrics()
    labels = {"experiment": "first", "treatment": "treatment", "guardrail": "errors"}
    assert read(tmp_path, file, metrics=metrics) == ["first"]
    harm, at_least = (
        metrics.registry.get_sample_value(name, labels) or 0
        for name in ("ranker_guard_harm", "ranker_guard_harm_at_least")
    )
    assert harm == pytest.approx(0.189)  # 0.2 - 0.01 - 0.001
    assert 0 < at_least < harm
    assert metrics.registry.get_sample_value("ranker_guard_stops_total", {"experiment": "first"}) == 1
    read(tmp_path, file, metrics=metrics)  # it does not run any more
    assert metrics.registry.get_sample_value("ranker_guard_harm", labels) is None
    assert metrics.registry.get_sample_value("ranker_guard_stops_total", {"experiment": "first"}) == 1


def test_a_bound_that_can_no_longer_be_told_is_not_shown() -> None:
    metrics, arm = Metrics(), Arm(100, 0.0, 0.0)
    labels = {"experiment": "first", "treatment": "treatment", "guardrail": "errors"}
    metrics.found([("first", Finding("errors", "treatment", 0.2, 0.1, arm, arm))])
    metrics.found([("first", Finding("errors", "treatment", 0.3, -math.inf, arm, arm))])
    assert metrics.registry.get_sample_value("ranker_guard_harm", labels) == 0.3
    assert metrics.registry.get_sample_value("ranker_guard_harm_at_least", labels) is None


def test_a_unit_counts_as_soon_as_events_have_settled(tmp_path: Path, file: Path) -> None:
    fill(tmp_path / "data", failing=20)
    assert read(tmp_path, file, now=NOON + HOUR + 1_000, settle_ms=2_000) == []
    assert read(tmp_path, file, now=NOON + HOUR + 2_000, settle_ms=2_000) == ["first"]


def test_a_harmless_experiment_goes_on(tmp_path: Path, file: Path) -> None:
    fill(tmp_path / "data", failing=1)
    assert read(tmp_path, file) == []
    assert file.read_text() == TEXT


def test_a_dry_run_only_tells(tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "data", failing=20)
    assert read(tmp_path, file, dry_run=True) == ["first"]
    assert file.read_text() == TEXT
    assert '"guardrail": "errors", "treatment": "treatment", "is_harm": true' in capsys.readouterr().out


def test_units_whose_window_is_not_over_do_not_count(tmp_path: Path, file: Path) -> None:
    fill(tmp_path / "data", failing=20)
    assert read(tmp_path, file, now=NOON + HOUR + SETTLE_MS - 1) == []


def test_a_truncated_file_stops_nothing_and_is_named(tmp_path: Path, file: Path) -> None:
    fill(tmp_path / "data", failing=20)
    damaged = next((tmp_path / "data" / "rankings").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CommandError, match=r"rankings/.*not a whole Parquet file"):
        read(tmp_path, file)
    assert file.read_text() == TEXT


def test_values_are_those_of_the_window(tmp_path: Path) -> None:
    """Two users in each arm; the second of the control does nothing."""
    write(tmp_path, "exposures", [exposed("a", "control"), exposed("b", "control"), exposed("c", "treatment"),
                                  exposed("d", "treatment"), exposed("c", "treatment", NOON + 5)])  # fmt: skip
    write(tmp_path, "rankings", [
        ranked("a", 0, "ok", NOON - 2_000), ranked("a", 1, "error"), ranked("a", 2, "degraded", NOON + HOUR - 1),
        ranked("a", 3, "refused", NOON + HOUR), ranked("b", 0, "ok"), ranked("c", 0, "refused"), ranked("d", 0, "ok"),
    ])  # fmt: skip
    write(tmp_path, "activity", [
        acted("a", "dislike", 0), acted("a", "dislike", 1, NOON + HOUR), acted("a", "dislike", 2, NOON - 1),
        acted("a", "play_end", 3, play_ms=90_000, duration_ms=10_000), acted("a", "play", 4, play_ms=2_000),
        acted("a", "play_end", 5, play_ms=-5, duration_ms=10_000), acted("c", "like", 0),
    ])  # fmt: skip
    with database(Resources(threads=1)) as opened:
        arms = measure(opened, tmp_path, "first", HOUR, NOW)
    assert arms["control"]["errors"] == Arm(2, 0.25, 0.125)  # of a: one of two rankings in the window
    assert arms["control"]["degraded"] == Arm(2, 0.25, 0.125)
    assert arms["control"]["dislike"] == Arm(2, 0.5, 0.5)
    assert arms["control"]["playtime"] == Arm(2, 16.0, 512.0)  # of a: 30 s, three times the item, and 2 s
    assert arms["treatment"]["errors"].mean == 0.5
    assert arms["treatment"]["latency"].n == 1  # c got no answer
    assert arms["treatment"]["dislike"].mean == 0.0


def test_without_rankings_the_other_guardrails_are_read(tmp_path: Path) -> None:
    write(tmp_path, "exposures", [exposed("a", "control"), exposed("b", "treatment")])
    write(tmp_path, "activity", [acted("a", "dislike", 0)])
    with database(Resources(threads=1)) as opened:
        arms = measure(opened, tmp_path, "first", HOUR, NOW)
    assert arms["control"].keys() == {"dislike", "playtime"}
