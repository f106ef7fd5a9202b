"""Files of our own: written whole or not at all, and damage is an error that names the file."""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.files import BadFileError, read_arrays, read_object, write_array, write_arrays, write_json, write_whole

ROOT = Path(__file__).resolve().parents[3]


def test_arrays_and_objects_come_back(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", {"x": np.arange(5)})
    write_json(tmp_path / "a.json", {"name": "é"})
    write_array(tmp_path / "a.npy", np.ones(3))
    assert read_arrays(tmp_path / "a.npz")["x"].tolist() == [0, 1, 2, 3, 4]
    assert read_object(tmp_path / "a.json") == {"name": "é"}
    assert np.load(tmp_path / "a.npy").tolist() == [1, 1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.npy", "a.npz"]


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"[]", b'{"a"', b"[" * 100_000], ids=repr)
def test_bytes_that_are_no_object_are_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BadFileError, match=r"a\.json: damaged"):
        read_object(tmp_path / "a.json")


def test_a_field_that_is_absent_is_damage(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"seed": 1})
    with pytest.raises(BadFileError, match=r"a\.json: damaged: it has no field 'model'"):
        read_object(tmp_path / "a.json")["model"]


@pytest.mark.parametrize("read", [read_object, read_arrays])
def test_a_folder_or_nothing_in_the_place_of_a_file_is_an_error(tmp_path: Path, read: object) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "nothing" / "below"):
        with pytest.raises(BadFileError, match=str(path)):
            read(path)  # type: ignore[operator]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "a.npz"
    write_arrays(path, {"x": np.random.default_rng(0).random(64)})
    return path


@given(data=st.data())
def test_any_damage_of_an_archive_is_an_error_that_names_it(archive: Path, data: st.DataObject) -> None:
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = archive.with_name("damaged.npz")
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(BadFileError):  # anything else fails the test; bytes that mean the same are read
        read_arrays(damaged)


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    write_array(tmp_path / "a.npz", np.ones(3))
    with pytest.raises(BadFileError, match="damaged"):
        read_arrays(tmp_path / "a.npz")


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_part_of_the_new(tmp_path: Path) -> None:
    """A limit on the size of files ends a write as a full disk does."""
    path = tmp_path / "a.json"
    write_whole(path, b"old")
    program = "from contract.files import write_whole; from pathlib import Path; import sys\n"
    program += "try: write_whole(Path(sys.argv[1]), b'x' * 100_000)\nexcept OSError as error: print(error.filename)"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )
    assert ended.stdout.strip() == str(path)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]
