"""Negatives are drawn once, are what they say they are, and belong to their queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.prepare import Prepared
from training.rows.negatives import Kind, stored_negatives
from training.rows.split import Rows, SplitError, leave_last_out

POPULARITY = np.arange(61, dtype=np.float32)


@pytest.fixture
def mine(prepared: Prepared, tmp_path: Path) -> Prepared:
    """The same data in a folder of its own."""
    return replace(prepared, directory=tmp_path)


@pytest.fixture
def rows(prepared: Prepared) -> Rows:
    return leave_last_out(prepared).test


@pytest.mark.parametrize(("kind", "count"), [("pop100", 100), ("uni100", 100), ("uni1000", 1000)])
def test_negatives_are_items_and_never_the_target(mine: Prepared, rows: Rows, kind: Kind, count: int) -> None:
    popularity = POPULARITY[: len(mine.items) + 1]
    drawn = stored_negatives(mine, "test", kind, rows, popularity)
    assert drawn.shape == (len(rows.items), count)
    assert drawn.min() >= 1
    assert drawn.max() <= len(mine.items)
    assert not (drawn == rows.items[:, None]).any()


def test_pop100_draws_by_popularity(mine: Prepared, rows: Rows) -> None:
    popularity = np.zeros(len(mine.items) + 1, dtype=np.float32)
    popularity[[3, 5]] = 1, 3
    drawn = stored_negatives(mine, "test", "pop100", rows, popularity)
    others = ~np.isin(rows.items, (3, 5))
    assert set(np.unique(drawn)) == {3, 5}
    assert (drawn[others] == 5).mean() == pytest.approx(0.75, abs=0.05)


def test_uni1000_leaves_the_history_out(mine: Prepared, rows: Rows) -> None:
    drawn = stored_negatives(mine, "test", "uni1000", rows, POPULARITY)
    for place in range(len(rows.items)):
        history = mine.columns["items"][rows.starts[place] : rows.stops[place]][-100:]
        assert not np.isin(drawn[place], history).any()


def test_they_are_drawn_once_and_read_afterwards(mine: Prepared, rows: Rows) -> None:
    first = stored_negatives(mine, "test", "uni100", rows, POPULARITY)
    (file,) = (mine.directory / "negatives").iterdir()
    before = file.read_bytes()
    assert np.array_equal(stored_negatives(mine, "test", "uni100", rows, POPULARITY), first)
    assert file.read_bytes() == before


def test_two_trainings_may_draw_at_the_same_time(mine: Prepared, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    save = np.savez_compressed
    others: list[object] = []

    def interrupted(path: Path, **arrays: NDArray[np.int32]) -> None:
        save(path, **arrays)
        if not others:  # the second one begins and ends while the first one is about to put its file in place
            others.append(path)
            others.append(stored_negatives(mine, "test", "uni100", rows, POPULARITY))

    monkeypatch.setattr(np, "savez_compressed", interrupted)
    drawn = stored_negatives(mine, "test", "uni100", rows, POPULARITY)
    assert np.array_equal(drawn, np.asarray(others[1]))
    assert [file.name for file in (mine.directory / "negatives").iterdir()] == ["test-uni100.npz"]


def test_other_queries_get_others_and_a_damaged_file_is_drawn_anew(mine: Prepared, rows: Rows) -> None:
    first = stored_negatives(mine, "test", "uni100", rows, POPULARITY)
    fewer = rows.take(np.arange(5))
    assert len(stored_negatives(mine, "test", "uni100", fewer, POPULARITY)) == 5
    (file,) = (mine.directory / "negatives").iterdir()
    file.write_bytes(b"not an archive")
    assert np.array_equal(stored_negatives(mine, "test", "uni100", rows, POPULARITY), first)


def test_one_item_is_not_enough_to_draw_by_popularity(mine: Prepared, rows: Rows) -> None:
    popularity = np.zeros(len(mine.items) + 1, dtype=np.float32)
    popularity[3] = 5
    with pytest.raises(SplitError, match="two items"):
        stored_negatives(mine, "test", "pop100", rows, popularity)
