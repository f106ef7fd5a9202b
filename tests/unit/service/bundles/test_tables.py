"""A table is served from its file, once it is what the manifest promised; an edit in place is noticed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.bundle.manifest import table_file
from service.bundles import files as bundle_files
from service.bundles.bundle import Bundle, load_bundle
from service.bundles.files import BundleError
from tests.support.builders import WIDTH, TinyModel

TABLED = TinyModel(tabled=True)
FILE = table_file("table_0")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return TABLED.write(tmp_path)


def load(directory: Path, *, map_tables: bool = True) -> Bundle:
    return load_bundle(directory, max_bytes=10_000_000, map_tables=map_tables)


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


def replace(directory: Path, table: np.ndarray[Any, Any]) -> None:
    np.save(directory / FILE, table)
    TABLED.seal(directory)


def test_a_table_is_a_read_only_view_of_its_mapped_file(directory: Path) -> None:
    bundle = load(directory)
    found = bundle.tables.arrays["table_0"]
    assert np.array_equal(found, TABLED.vectors)
    assert not found.flags.writeable
    assert not found.flags.owndata
    assert str(directory / FILE) in mapped_files()


def test_a_table_can_be_read_into_memory_instead(directory: Path) -> None:
    bundle = load(directory, map_tables=False)
    assert np.array_equal(bundle.tables.arrays["table_0"], TABLED.vectors)
    assert str(directory / FILE) not in mapped_files()
    (directory / FILE).write_bytes(b"")
    assert np.array_equal(bundle.tables.arrays["table_0"], TABLED.vectors)
    assert not bundle.tables.were_changed()


def test_a_bundle_without_tables_has_none(tmp_path: Path) -> None:
    bundle = load(TinyModel().write(tmp_path))
    assert bundle.tables.arrays == {}
    assert not bundle.tables.were_changed()


@pytest.mark.parametrize(
    "table",
    [
        TABLED.vectors.astype(np.float64),
        TABLED.vectors[:-1],
        TABLED.vectors.T,
        TABLED.vectors.astype(np.int64),
        np.zeros((TABLED.items + 1, WIDTH, 1), dtype=np.float32),
    ],
    ids=["float64", "a row short", "transposed", "int64", "another rank"],
)
def test_a_table_of_another_kind_is_refused(directory: Path, table: np.ndarray[Any, Any]) -> None:
    replace(directory, table)
    with pytest.raises(BundleError):
        load(directory)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_table_with_a_number_that_is_not_finite_is_refused(directory: Path, number: float) -> None:
    table = TABLED.vectors.copy()
    table[7, 2] = number
    replace(directory, table)
    with pytest.raises(BundleError, match=rf"{FILE} has a"):
        load(directory)


def test_a_table_with_another_digest_is_refused(directory: Path) -> None:
    table = TABLED.vectors.copy()
    table[7, 2] += 1
    np.save(directory / FILE, table)
    with pytest.raises(BundleError, match=rf"{FILE} is not the file that the manifest describes"):
        load(directory)


def test_a_table_that_is_missing_or_a_link_is_refused(directory: Path, tmp_path: Path) -> None:
    moved = (directory / FILE).rename(tmp_path / FILE)
    with pytest.raises(BundleError, match=rf"{FILE} is missing"):
        load(directory)
    (directory / FILE).symlink_to(moved)
    with pytest.raises(BundleError, match=rf"{FILE} is a link"):
        load(directory)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not an array"])
def test_a_file_that_is_no_array_is_refused(directory: Path, content: bytes) -> None:
    (directory / FILE).write_bytes(content)
    TABLED.seal(directory)
    with pytest.raises(BundleError):
        load(directory)


def test_a_table_written_to_between_the_check_and_the_mapping_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = bundle_files._streamed_digest
    size = (directory / FILE).stat().st_size

    def check_then_write(file: Any, wanted: int) -> str:
        found = check(file, wanted)
        if wanted == size:
            edit(directory)
        return found

    monkeypatch.setattr(bundle_files, "_streamed_digest", check_then_write)
    with pytest.raises(BundleError, match=rf"{FILE} changed while it was read"):
        load(directory)


def edit(directory: Path) -> None:
    """Change the last number of the table in place."""
    with (directory / FILE).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(9).tobytes())
    os.utime(directory / FILE, ns=(1, 1))  # a write within the clock's tick of the one before would keep its time


def test_an_edit_in_place_is_noticed(directory: Path) -> None:
    bundle = load(directory)
    assert not bundle.tables.were_changed()
    edit(directory)
    assert bundle.tables.were_changed()


@pytest.mark.parametrize("what", ["replaced", "removed", "moved"])
def test_a_file_that_is_replaced_or_removed_changes_nothing(directory: Path, what: str) -> None:
    bundle = load(directory)
    path = directory / FILE
    if what == "replaced":
        (directory / "new").write_bytes(b"another")
        (directory / "new").replace(path)
    elif what == "removed":
        path.unlink()
    else:
        directory.rename(directory.parent / "elsewhere")
    assert not bundle.tables.were_changed()
    assert np.array_equal(bundle.tables.arrays["table_0"], TABLED.vectors)
