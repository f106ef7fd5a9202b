from __future__ import annotations

from typing import Any

import pytest

from analysis.metrics import MEANS
from analysis.rules import Study
from analysis.tables.database import Resources
from analysis.units.table import compute
from tests.support.event_tables import DAY, T0, Row, exposure, write_rows
from tests.unit.analysis.units.sequences import SEQUENCES, Sequence


def events_of(sequence: Sequence) -> list[Row]:
    rows: list[Row] = []
    for seconds, name, fields in sequence.events:
        ts = T0 + round(seconds * 1000)
        row: dict[str, Any] = {
            "id": f"{sequence.name} {len(rows):03d}", "ts": ts, "unit": sequence.name, "type": name, "clamped": 0,
        } | fields  # fmt: skip
        row["received"] = ts + round(row.pop("late", 0) * 1000)
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    folder = tmp_path_factory.mktemp("sequences")
    write_rows(folder, "exposures", [exposure(sequence.name) for sequence in SEQUENCES])
    write_rows(folder, "activity", [row for sequence in SEQUENCES for row in events_of(sequence)])
    table = compute(folder, Study("e", 7, T0 + 12 * DAY), Resources("500MB", 1)).units
    assert sum(column.null_count for column in table.columns) == 0
    return {row["unit"]: row for row in table.to_pylist()}


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence.name)
def test_a_sequence_has_exactly_these_metrics(units: dict[str, Row], sequence: Sequence) -> None:
    row = units[sequence.name]
    found = {name: row[name] for mean in MEANS for name in (mean, f"{mean}_pre") if row[name]}
    assert found == {name: value for name, value in sequence.expected.items() if value}


def test_sequences_have_names_of_their_own() -> None:
    assert len({sequence.name for sequence in SEQUENCES}) == len(SEQUENCES) > 30
