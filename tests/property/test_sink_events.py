"""A batch can always be written: each event fits its table or is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.sink.events import ACTIVITY, EXPOSURES, RANKINGS, DamagedEventError, Kind, Reader
from tests.support.sink_process import activity, exposure, ranking

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([2**31, 2**63, -(2**63)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
GOOD = {EXPOSURES.table: exposure(1), ACTIVITY.table: activity(1), RANKINGS.table: ranking(1)}


@pytest.mark.parametrize("kind", [EXPOSURES, ACTIVITY, RANKINGS], ids=lambda kind: kind.table)
def test_an_event_becomes_a_row_that_parquet_can_store_or_is_refused(kind: Kind) -> None:
    reader, good = Reader(kind), json.loads(GOOD[kind.table])
    names = sorted({*good, *kind.schema.names, *kind.extra})

    @given(st.dictionaries(st.sampled_from(names), VALUES, max_size=3))
    def stored_or_refused(changes: dict[str, Any]) -> None:
        try:
            row = reader.row(json.dumps(good | changes).encode())
        except DamagedEventError:
            return
        batch = pa.RecordBatch.from_pylist([row], kind.schema)
        assert batch.to_pylist()[0][kind.clock] == row[kind.clock]

    stored_or_refused()


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_with_a_reason(content: bytes) -> None:
    with pytest.raises(DamagedEventError):
        Reader(EXPOSURES).row(content)
