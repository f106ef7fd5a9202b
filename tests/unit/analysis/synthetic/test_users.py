from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.rules import SIMULATED_FILE, Study
from analysis.synthetic.events import draw_events
from analysis.synthetic.files import write_synthetic
from analysis.synthetic.population import Effect, Population
from analysis.synthetic.users import draw_users, unit_name
from analysis.tables.database import Resources
from analysis.tables.reading import check, table_files
from analysis.tables.schemas import SCHEMAS
from analysis.units.table import compute
from contract.experiments.buckets import bucket
from tests.support.event_tables import DAY


def read(folder: Path, table: str) -> pa.Table:
    files = table_files(folder, table)
    for file in files:
        check(file, SCHEMAS[table])
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files])


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(users=300, seed=9, entry_days=2, repeats=0.05)


@pytest.fixture(scope="module")
def folder(population: Population, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    assert write_synthetic(population, folder) == read(folder, "activity").num_rows
    return folder


def test_the_same_population_gives_the_same_rows(population: Population, folder: Path, tmp_path: Path) -> None:
    write_synthetic(population, tmp_path)
    for table in ("exposures", "activity"):
        assert read(tmp_path, table) == read(folder, table)


def test_the_data_are_marked_as_simulated(folder: Path) -> None:
    assert (folder / SIMULATED_FILE).exists()


def test_files_are_by_date_of_arrival(folder: Path) -> None:
    for file in table_files(folder, "activity"):
        days = {ms // DAY for ms in pq.ParquetFile(file).read()["received"].to_pylist()}
        date = np.datetime64(file.parent.name.removeprefix("date="))
        assert days == {int(date.astype("datetime64[D]").astype(int))}


def test_arms_are_those_of_the_hash(population: Population, folder: Path) -> None:
    rows = read(folder, "exposures").to_pylist()
    assert {row["unit"] for row in rows} == {unit_name(number) for number in range(300)}
    for row in rows:
        place = bucket(population.salt, "arm", row["unit"])
        assert row["arm"] == ("control" if place < 5_000 else "treatment")


def test_repeats_late_arrivals_and_second_devices_are_as_frequent_as_asked(folder: Path) -> None:
    rows = read(folder, "activity").to_pydict()
    ids = len(rows["id"])
    assert (ids - len(set(rows["id"]))) / ids == pytest.approx(0.05, abs=0.005)
    late = sum(received - ts > 2 * 3_600_000 for received, ts in zip(rows["received"], rows["ts"], strict=True))
    assert late / ids == pytest.approx(0.02, abs=0.005)
    assert 0.05 < len({name for name in rows["device"] if name.endswith("-tablet")}) / 300 < 0.2


def test_every_user_has_views_with_an_id_and_an_item(folder: Path) -> None:
    rows = read(folder, "activity").to_pylist()
    plays = [row for row in rows if row["type"] in ("play_start", "play_end")]
    assert all(row["view"] and row["item"] and row["author"] and row["duration_ms"] > 0 for row in plays)
    starts = {row["view"] for row in plays if row["type"] == "play_start"}
    assert {row["view"] for row in plays if row["type"] == "play_end"} < starts, "some ends are lost"


def test_the_effect_begins_with_the_exposure() -> None:
    """The same seed with and without an effect: the time before is the same, event for event."""
    drawn = []
    for lift in (0.0, 0.5):
        population = Population(
            200, seed=4, effects={"control": Effect(watching=lift), "treatment": Effect(watching=lift)}
        )
        users, rng = draw_users(population, 0)
        events = draw_events(population, users, rng)
        ends = (events.play_ms >= 0) & (events.ts < users.exposed[events.user])
        drawn.append((int(events.play_ms[ends].sum()), int(events.play_ms[events.play_ms >= 0].sum())))
    assert drawn[0][0] == drawn[1][0] > 0
    assert drawn[1][1] - drawn[1][0] == pytest.approx(1.5 * (drawn[0][1] - drawn[0][0]), rel=0.01)


def test_the_planted_lift_is_in_the_unit_table(tmp_path: Path) -> None:
    effect = Effect(sessions=0.5, watching=0.5, liking=1.0)
    population = Population(
        1_500, seed=3, before_days=1, after_days=7, sessions_per_day=0.6, lost_ends=0.0,
        effects={"control": Effect(), "treatment": effect},
    )  # fmt: skip
    write_synthetic(population, tmp_path)
    study = Study("simulated", 7, population.start_ms + 9 * DAY)
    units = compute(tmp_path, study, Resources("500MB", 1)).units
    treated = np.array(units["arm"].to_pylist()) == "treatment"
    for name, lift in {"play": 0.5, "playtime": 1.5 * 1.5 - 1, "like": 1.5 * 2 - 1}.items():
        values = units[name].to_numpy()
        control, treatment = values[~treated], values[treated]
        error = np.hypot(control.std() / control.mean(), treatment.std() / treatment.mean()) / np.sqrt(750)
        assert 3 * error < 0.6 * lift, "the test could not fail"
        assert treatment.mean() / control.mean() - 1 == pytest.approx(lift, abs=3 * error * (1 + lift)), name
