"""The part of a too long history that is kept: first what a served model can use, then what its successor might."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.behaviours.records import Records
from service.bundles.bundle import Bundle, load_bundle
from service.store.retention import READABLE, UNREAD, USABLE, Grades, grades, retained, usable_count
from tests.support.builders import TinyModel, behaviours


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(TinyModel().write(tmp_path_factory.mktemp("bundles")), max_bytes=10_000_000)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root: Path = tmp_path_factory.mktemp("larger")
    return load_bundle(TinyModel(model="larger", items=30).write(root), max_bytes=10_000_000)


def history(clicks: int = 0, new: int = 0, seen: int = 0) -> Records:
    """Return clicks on known items, then clicks on new ones, then impressions, oldest first."""
    return np.concatenate(
        [
            behaviours([f"i{1 + place % 20}" for place in range(clicks)], start_ms=1),
            behaviours([f"new{place}" for place in range(new)], start_ms=100_000),
            behaviours(["i1"] * seen, start_ms=200_000, action="impression"),
        ]
    )


def test_a_record_is_graded_by_action_and_item(bundle: Bundle) -> None:
    assert grades([bundle], history(1, 1, 1)).tolist() == [USABLE, READABLE, UNREAD]
    assert usable_count(bundle, history(3, 2, 2)) == 3


def test_the_best_of_all_served_bundles_counts(bundle: Bundle, larger: Bundle) -> None:
    newer = behaviours(["i25"])
    assert grades([bundle], newer).tolist() == [READABLE]
    assert grades([bundle, larger], newer).tolist() == [USABLE]


def test_without_a_bundle_every_record_is_worth_the_same() -> None:
    assert grades([], history(1, 1, 1)).tolist() == [READABLE] * 3


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        (history(clicks=100), history(clicks=100)[-40:]),
        (history(clicks=10, seen=100), np.concatenate([history(clicks=10), history(seen=100)[-30:]])),
        (history(clicks=100, seen=100), history(clicks=100)[-40:]),
        (history(clicks=100, new=100), np.concatenate([history(clicks=100)[-20:], history(new=100)[-20:]])),
        (history(clicks=100, new=8, seen=100), np.concatenate([history(clicks=100)[-32:], history(new=8)])),
        (history(new=5, seen=100), np.concatenate([history(new=5), history(seen=100)[-35:]])),
        (history(clicks=39), history(clicks=39)),
        (history(), history()),
    ],
    ids=["clicks", "few clicks", "impressions", "new items", "some new items", "nothing known", "short", "empty"],
)
def test_what_a_model_can_use_is_never_pushed_out(bundle: Bundle, stored: Records, kept: Records) -> None:
    assert retained(stored, grades([bundle], stored), 40).tobytes() == kept.tobytes()


def test_late_records_are_put_in_their_place() -> None:
    stored = np.concatenate([history(clicks=5)[3:], history(clicks=5)[:3]])
    assert retained(stored, grades([], stored), 40).tobytes() == history(clicks=5).tobytes()


@st.composite
def graded(draw: st.DrawFn) -> tuple[Records, Grades, int]:
    found = np.array(draw(st.lists(st.sampled_from([UNREAD, READABLE, USABLE]), max_size=60)), dtype=np.int8)
    times = draw(st.lists(st.integers(1, 50), min_size=len(found), max_size=len(found)))
    return behaviours([f"i{place}" for place in range(len(found))], times_ms=times), found, draw(st.integers(1, 70))


@given(graded())
def test_for_any_history_half_the_room_is_for_the_usable_and_none_is_wasted(given: tuple[Records, Grades, int]) -> None:
    stored, found, most = given
    kept = retained(stored, found, most)
    assert len(kept) == min(len(stored), most)
    assert (np.diff(kept["time_ms"].astype(np.int64)) >= 0).all()
    assert len({record.tobytes() for record in kept} - {record.tobytes() for record in stored}) == 0
    newest_first = stored[np.argsort(stored["time_ms"], kind="stable")][::-1]
    usable = [record.tobytes() for record in newest_first if record.tobytes() in _of(stored, found == USABLE)]
    assert set(usable[: max(1, most // 2)]) <= {record.tobytes() for record in kept}
    dropped_readable = _of(stored, found >= READABLE) - {record.tobytes() for record in kept}
    if dropped_readable:  # then no record that no model reads takes its place
        assert not _of(stored, found == UNREAD) & {record.tobytes() for record in kept}


def _of(records: Records, mask: object) -> set[bytes]:
    return {record.tobytes() for record in records[mask]}
