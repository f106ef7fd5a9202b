"""The exposed set, windows, counts and notes; and results that depend on the rows only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.metrics import METRICS
from analysis.rules import Study
from analysis.synthetic.files import write_synthetic
from analysis.synthetic.population import Population
from analysis.tables.database import Resources
from analysis.units.actions import ADDITIVE
from analysis.units.table import STAGES, Tables, compute
from contract.command_line import CommandError
from contract.files import BadFileError
from tests.support.event_tables import DAY, HOUR, T0, Events, Row, exposure, write_rows

SMALL = Resources("500MB", 1)  # more threads take more processor time for tables this small
END = T0 + 12 * DAY


def tables(folder: Path, exposures: list[Row], events: list[Row] | None = None, **study: Any) -> Tables:
    write_rows(folder, "exposures", exposures)
    if events is not None:
        write_rows(folder, "activity", events)
    return compute(folder, Study(**({"experiment": "e", "window_days": 7, "end_ms": END} | study)), SMALL)


def units(found: Tables, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in found.units.to_pylist()]


def counted(found: Tables, subject: str) -> list[tuple[str, str, int]]:
    return [(row["value"], row["arm"], row["n"]) for row in found.counts.to_pylist() if row["subject"] == subject]


def refusal(folder: Path) -> list[str]:
    try:
        compute(folder, Study("e", 7, END), SMALL)
    except CommandError as error:
        return [str(error)]
    return []


def test_the_earliest_unforced_exposure_counts(tmp_path: Path) -> None:
    rows = [
        exposure(ts=T0 + 9),
        exposure(ts=T0 + 5),
        exposure(ts=T0, forced=1, arm="treatment"),
        exposure("w", ts=T0 + 1),
    ]
    found = tables(tmp_path, rows)
    assert units(found, "unit", "arm", "exposed_ts") == [("u", "control", T0 + 5), ("w", "control", T0 + 1)]
    assert found.notes.forced == 1


def test_the_reason_is_that_of_the_first_exposure(tmp_path: Path) -> None:
    found = tables(tmp_path, [exposure(ts=T0 + 9, reason="late"), exposure(ts=T0 + 5, reason="split")])
    assert counted(found, "reason") == [("split", "control", 1)]


def test_a_unit_that_was_only_forced_is_not_exposed(tmp_path: Path) -> None:
    found = tables(tmp_path, [exposure("forced", forced=1), exposure()])
    assert units(found, "unit") == [("u",)]


def test_units_in_two_arms_are_left_out_and_counted(tmp_path: Path) -> None:
    found = tables(tmp_path, [exposure("both"), exposure("both", arm="treatment", ts=T0 + 5), exposure("one")])
    assert units(found, "unit") == [("one",)]
    assert (found.notes.two_arms, found.notes.units) == (1, 1)


def test_two_configurations_with_one_salt_are_one_experiment(tmp_path: Path) -> None:
    found = tables(tmp_path, [exposure(cfg="c1"), exposure("w", cfg="c2")])
    assert found.notes.configurations == ("c1", "c2")
    assert found.notes.units == 2


def test_two_salts_are_an_error_that_names_them(tmp_path: Path) -> None:
    rows = [exposure(), exposure("w", exp_salt="s2", ts=T0 + 5_000, arm="treatment")]
    with pytest.raises(CommandError, match=r"2 salts.*'s1' \(1 exposures, the first at 2026-01-01T08:00:00Z\), 's2'"):
        tables(tmp_path, rows)
    found = tables(tmp_path, rows, salt="s2")
    assert units(found, "unit", "arm") == [("w", "treatment")]
    assert found.notes.salt == "s2"
    with pytest.raises(CommandError, match="no exposures with the salt 's3'"):
        tables(tmp_path, rows, salt="s3")


def test_the_salt_of_a_forced_exposure_does_not_matter(tmp_path: Path) -> None:
    assert units(tables(tmp_path, [exposure(), exposure("w", exp_salt="s2", forced=1)]), "unit") == [("u",)]


def test_an_experiment_without_exposures_is_an_error_that_names_the_others(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"'other' has no exposures; the data has exposures of e$"):
        tables(tmp_path, [exposure()], experiment="other")
    with pytest.raises(CommandError, match="has no exposures; the data has no exposures at all"):
        compute(tmp_path / "empty", Study("e"), SMALL)


def test_an_experiment_with_only_forced_exposures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="'e' has no exposures"):
        tables(tmp_path, [exposure(forced=1)])


def test_a_folder_with_a_quote_is_a_folder(tmp_path: Path) -> None:
    found = tables(tmp_path / "it's", [exposure()], [Events().add("comment", T0, item="i")])
    assert units(found, "comment") == [(1.0,)]


def test_a_name_with_a_quote_is_a_name(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no exposures"):
        tables(tmp_path, [exposure()], experiment="e' OR 'a' = 'a")


def test_units_without_events_have_zeros_and_no_history(tmp_path: Path) -> None:
    found = tables(tmp_path, [exposure()])
    row = found.units.to_pylist()[0]
    assert (row["history"], row["complete"], row["playtime"], row["like_pre"]) == (False, True, 0.0, 0.0)
    assert found.notes.data_from is None


def test_history_is_an_event_in_the_period_before(tmp_path: Path) -> None:
    events = Events()
    for unit, ts in (("in", T0 - 7 * DAY), ("out", T0 - 7 * DAY - 1), ("after", T0)):
        events.add("click", ts, unit)
    found = tables(tmp_path, [exposure("in"), exposure("out"), exposure("after")], events.rows)
    assert units(found, "unit", "history") == [("after", False), ("in", True), ("out", False)]
    assert found.notes.with_history == 1


def test_a_window_is_complete_when_the_data_reach_its_end(tmp_path: Path) -> None:
    found = tables(tmp_path, [exposure("a"), exposure("b", ts=T0 + 1)], end_ms=T0 + 7 * DAY)
    assert units(found, "unit", "complete") == [("a", True), ("b", False)]
    assert (found.notes.complete, found.notes.unsettled) == (1, 1)
    assert tables(tmp_path, [exposure("a")], end_ms=T0 + 11 * DAY - 8 * HOUR).notes.unsettled == 0


def test_what_arrives_at_the_end_of_the_data_or_later_is_not_read(tmp_path: Path) -> None:
    events = Events()
    events.add("comment", T0 + 5, item="i")
    events.add("comment", T0 + 6, item="i", received=T0 + DAY)
    found = tables(tmp_path, [exposure(), exposure("late", ts=T0 + DAY)], events.rows, end_ms=T0 + DAY)
    assert units(found, "unit", "comment") == [("u", 1.0)]


def test_without_an_end_the_data_end_with_the_last_arrival(tmp_path: Path) -> None:
    events = Events()
    events.add("comment", T0 + 5, item="i", received=T0 + 9)
    found = tables(tmp_path, [exposure()], events.rows, end_ms=None)
    assert found.notes.data_until == T0 + 10
    assert units(found, "comment") == [(1.0,)]
    assert tables(tmp_path / "none", [exposure()], end_ms=None).notes.data_until == T0 + 1


def test_what_is_not_counted_is_in_the_notes_by_cause_and_arm(tmp_path: Path) -> None:
    events = Events()
    events.add("play", T0, play_ms=-1)
    events.add("sneeze", T0)
    events.add("like", T0)
    events.add("like", T0, "w", item="i", received=T0 + 5 * DAY)
    events.add("like", T0 + 2 * DAY, "w", item="i", received=T0)
    events.add("click", T0, "w", clamped=1)
    events.add("click", T0, "stranger")
    events.rows += [events.rows[-2] | {"ts": T0 + 1}]
    broken = [{"unit": None}, {"unit": ""}, {"id": None}, {"ts": None}, {"type": None}]
    events.rows += [events.rows[0] | {"id": f"broken{place}"} | change for place, change in enumerate(broken)]
    notes = tables(tmp_path, [exposure(), exposure("w", arm="treatment")], events.rows).notes
    assert notes.faults == {
        "ahead": {"treatment": 1}, "key": {"control": 1}, "late": {"treatment": 1}, "range": {"control": 1},
        "type": {"control": 1},
    }  # fmt: skip
    assert notes.clamped == {"treatment": 1}
    assert (notes.events, notes.repeats, notes.broken) == (13, 1, 5)


def test_the_counts_of_the_gates(tmp_path: Path) -> None:
    rows = [
        exposure(), exposure(ts=T0 + DAY, outcome="degraded"),
        exposure("w", arm="treatment", ts=T0 + DAY, outcome="error"), exposure("v", arm="treatment", reason="other"),
    ]  # fmt: skip
    arms = [{"layer": "rank", "exp": "e", "arm": "control", "forced": 0}]
    ranked = {
        "id": "1",
        "ts": T0,
        "req": "r-u",
        "unit": "u",
        "arms": arms,
        "outcome": "ok",
        "attributes": '{"platform": "ios"}',
    }
    rankings = [
        ranked,
        ranked,  # the same row, written twice
        {"id": "2", "ts": T0, "req": "q", "unit": "u", "arms": arms, "outcome": "refused", "attributes": None},
        {"id": "3", "ts": T0, "req": "f", "unit": "u", "arms": [arms[0] | {"forced": 1}], "outcome": "error"},
        {"id": "4", "ts": T0, "req": "o", "unit": "u", "arms": [arms[0] | {"exp": "other"}], "outcome": "error"},
    ]
    write_rows(tmp_path, "rankings", rankings)
    found = tables(tmp_path, rows)
    assert counted(found, "units") == [("", "control", 1), ("", "treatment", 2)]
    assert counted(found, "day") == [
        ("2026-01-01", "control", 1), ("2026-01-01", "treatment", 1), ("2026-01-02", "treatment", 1)
    ]  # fmt: skip
    assert counted(found, "reason") == [("other", "treatment", 1), ("split", "control", 1), ("split", "treatment", 1)]
    assert counted(found, "platform") == [("ios", "control", 1)]
    assert counted(found, "exposure outcome") == [
        ("degraded", "control", 1), ("error", "treatment", 1), ("ok", "control", 1), ("ok", "treatment", 1)
    ]  # fmt: skip
    assert counted(found, "ranking outcome") == [("ok", "control", 1), ("refused", "control", 1)]


@pytest.mark.parametrize("table", ["exposures", "activity"])
def test_a_truncated_file_is_named(tmp_path: Path, table: str) -> None:
    write_rows(tmp_path, "exposures", [exposure()])
    write_rows(tmp_path, "activity", [Events().add("click", T0)])
    path = tmp_path / table / "date=2026-01-01" / "0.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadFileError, match=f"{table}/date=2026-01-01/0.parquet: not a whole Parquet file"):
        compute(tmp_path, Study("e"), SMALL)


@pytest.mark.parametrize("seeds", [2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("table", ["exposures", "activity", "rankings"])
def test_a_file_that_is_damaged_in_the_middle_is_named(tmp_path: Path, table: str, seeds: int) -> None:
    """DuckDB has many errors for that, some without the file's name."""
    write_rows(tmp_path, "exposures", [exposure(f"u{number}") for number in range(1_000)])
    write_rows(tmp_path, "activity", [Events().add("click", T0, f"u{number}") for number in range(1_000)])
    write_rows(tmp_path, "rankings", [{"id": f"r{number}", "ts": T0, "unit": f"u{number}"} for number in range(1_000)])
    path = tmp_path / table / "date=2026-01-01" / "0.parquet"
    whole = path.read_bytes()
    errors: list[str] = []
    for seed in range(seeds):
        damaged = np.frombuffer(whole, dtype=np.uint8).copy()
        damaged[np.random.default_rng(seed).integers(4, len(whole) * 2 // 3, 40)] ^= 0x55
        path.write_bytes(damaged.tobytes())
        errors += refusal(tmp_path)  # values without a checksum may change unseen
    assert errors
    assert [error for error in errors if f"{table}/date=2026-01-01/0.parquet" not in error] == []


@pytest.mark.parametrize("study", [{"window_days": 0}, {"window_days": 91}, {"day_ms": 999}, {"day_ms": DAY + 1}])
def test_impossible_windows_and_days_are_refused(study: dict[str, Any]) -> None:
    with pytest.raises(CommandError):
        Study("e", **study)


def test_a_simulated_day_gives_the_metrics_of_a_real_one(tmp_path: Path) -> None:
    factor = 4_320  # 24 hours in 20 s
    start = T0 // (factor * DAY) * DAY  # a simulated midnight
    real, short = Events(), Events()
    steps = [
        ("foreground", 0), ("play_start", 1), ("heartbeat", 3), ("play_end", 4), ("like", 5), ("background", 9),
        ("foreground", 16), ("background", 20), ("foreground", 21_000), ("background", 21_005),
    ]  # fmt: skip
    for name, step in steps:
        fields = {"view": "v", "item": "i", "play_ms": 3 * factor if name == "play_end" else None, "tz_offset": 60}
        real.add(name, start * factor + step * factor, **fields)
        short.add(name, start + step, **fields)
    as_real = tables(tmp_path / "real", [exposure(ts=start * factor)], real.rows, end_ms=start * factor + 9 * DAY)
    as_short = tables(tmp_path / "short", [exposure(ts=start)], short.rows, end_ms=start + 9 * 20_000, day_ms=20_000)
    assert as_short.units.drop_columns("exposed_ts") == as_real.units.drop_columns("exposed_ts")
    assert as_short.daily == as_real.daily
    row = as_short.units.to_pylist()[0]
    assert (row["active_days"], row["stay_duration"], row["playtime"]) == (
        2.0,
        77.76,
        12.96,
    )  # 18 and 3 ticks of 4.32 s


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    population = Population(
        users=300, seed=2, before_days=8, after_days=9, entry_days=2, sessions_per_day=1.0, second_devices=0.5,
        repeats=0.1, experiment="e",
    )  # fmt: skip
    write_synthetic(population, folder)
    return folder


STUDY = Study("e", 7, Population(users=1).start_ms + 8 * DAY)


@pytest.fixture(scope="module")
def computed(simulated: Path) -> Tables:
    return compute(simulated, STUDY, SMALL)


def in_bytes(found: Tables) -> list[bytes]:
    result = []
    for table in (found.units, found.daily, found.counts):
        assert sum(column.null_count for column in table.columns) == 0
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        result.append(sink.getvalue().to_pybytes())
    return result


@pytest.mark.parametrize("threads", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_results_are_the_same_bytes_with_any_number_of_threads(simulated: Path, computed: Tables, threads: int) -> None:
    assert in_bytes(compute(simulated, STUDY, Resources("500MB", threads))) == in_bytes(computed)


def test_order_and_files_of_rows_do_not_matter_nor_do_more_repeats(
    simulated: Path, computed: Tables, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    for table in ("exposures", "activity"):
        files = sorted((simulated / table).glob("*/*.parquet"))
        rows = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
        order = rng.permutation(np.concatenate([np.arange(len(rows)), rng.integers(0, len(rows), len(rows) // 5)]))
        for number, part in enumerate(np.array_split(order, 7)):
            path = tmp_path / table / f"date=2026-01-0{number + 1}" / f"{number}.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(rows.take(pa.array(part)), path, row_group_size=1_000)
    assert in_bytes(compute(tmp_path, STUDY, SMALL)) == in_bytes(computed)


def test_the_days_of_complete_units_add_up_to_their_window(simulated: Path) -> None:
    found = compute(simulated, Study("e", 7, STUDY.end_ms and STUDY.end_ms + 9 * DAY), SMALL)
    assert all(row["complete"] for row in found.units.to_pylist())
    for name in ADDITIVE:
        days = [row for row in found.daily.to_pylist() if row["metric"] == name]
        assert sum(row["sum"] for row in days) == pytest.approx(sum(found.units[name].to_pylist()), rel=1e-12)
        assert {(row["day"], row["n"]) for row in days if row["arm"] == "control"} == {
            (day, found.units["arm"].to_pylist().count("control")) for day in range(7)
        }


def test_daily_sums_are_those_of_a_window_of_one_day(simulated: Path, computed: Tables) -> None:
    units = compute(simulated, Study("e", 1, STUDY.end_ms), SMALL).units
    arm = units.filter(pa.compute.equal(units["arm"], "treatment")).to_pydict()
    daily = computed.daily.to_pylist()
    rows = {row["metric"]: row for row in daily if row["arm"] == "treatment" and row["day"] == 0}
    assert len(rows) == len(METRICS)
    cut = {"playtime", "valid_play", "finish", "finish_rate"}  # a view that goes on after the window of one day
    for metric in [metric for metric in METRICS if metric.name not in cut]:
        top, base = (np.array(arm[column]) for column in (metric.columns[0], metric.columns[-1]))
        if metric.kind == "mean":
            base = np.ones(len(top))
        if metric.name == "active_days":
            top = np.minimum(top, 1)  # 24 hours touch two local days
        expected = [top.sum(), (top**2).sum(), base.sum(), (base**2).sum(), (top * base).sum()]
        found = [rows[metric.name][key] for key in ("sum", "sum_squares", "base", "base_squares", "cross")]
        assert found == pytest.approx(expected, rel=1e-12), metric.name


def test_progress_reports_each_stage_from_0_to_1(simulated: Path) -> None:
    seen: list[tuple[str, float]] = []
    compute(simulated, STUDY, SMALL, lambda stage, share: seen.append((stage, share)))
    assert list(dict.fromkeys(stage for stage, _ in seen)) == list(STAGES)
    assert (
        {stage for stage, share in seen if share == 0.0}
        == {stage for stage, share in seen if share == 1.0}
        == set(STAGES)
    )
    assert all(0.0 <= share <= 1.0 for _, share in seen)


def test_too_little_memory_is_one_line(simulated: Path) -> None:
    with pytest.raises(CommandError, match="not enough memory"):
        compute(simulated, STUDY, Resources("1MB", 2))
