from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from urllib.error import URLError

import pytest

from training.data.datasets import locate as module
from training.data.datasets.interactions import DataError
from training.data.datasets.locate import Archive, locate
from training.data.datasets.ml100k import FILES
from training.data.sources import read_source


@pytest.fixture(autouse=True)
def nothing_beside_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path / "checkout")
    monkeypatch.delenv("RANKER_DATA", raising=False)


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, ml100k_folder: Path) -> bytes:
    """The official archive, in small."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for path in ml100k_folder.iterdir():
            file.write(path, f"ml-100k/{path.name}")
    content = packed.getvalue()
    names = ("u.data", "u.item", "u.genre")
    monkeypatch.setitem(module.ARCHIVES, "ml-100k", Archive("https://x.test/a.zip", sha256(content).hexdigest(), names))
    return content


def _offline(_: str) -> bytes:
    raise URLError("no route")


def test_a_given_folder_holds_the_data_set_or_is_it(ml100k_folder: Path, tmp_path: Path) -> None:
    assert locate("ml-100k", FILES, ml100k_folder, tmp_path) == ml100k_folder
    assert locate("ml-100k", FILES, ml100k_folder.parent, tmp_path) == ml100k_folder


def test_the_environment_names_the_folder(ml100k_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKER_DATA", str(ml100k_folder.parent))
    assert locate("ml-100k", FILES, None, tmp_path) == ml100k_folder


def test_the_folder_beside_the_checkout_is_found_by_itself(tmp_path: Path) -> None:
    beside = tmp_path / "shared" / "data" / "ml-100k"
    beside.mkdir(parents=True)
    (beside / "u.data.gz").touch()
    assert locate("ml-100k", FILES, None, tmp_path / "downloads") == beside


def test_a_named_folder_without_the_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data is .*contains ml-100k \(u\.data, u\.item, u\.genre\)"):
        locate("ml-100k", FILES, tmp_path, tmp_path)


def test_the_archive_is_unpacked_once(archive: bytes, tmp_path: Path, ml100k_folder: Path) -> None:
    fetch: Callable[[str], bytes] = {"https://x.test/a.zip": archive}.__getitem__
    folder = locate("ml-100k", FILES, None, tmp_path / "downloads", fetch)
    assert (folder / "u.item").read_bytes() == (ml100k_folder / "u.item").read_bytes()
    assert locate("ml-100k", FILES, None, tmp_path / "downloads", _offline) == folder


def test_an_archive_of_another_digest_is_refused_and_not_kept(archive: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the digest is .* expected .* nothing was kept"):
        locate("ml-100k", FILES, None, tmp_path / "downloads", lambda _: archive + b"x")
    assert not (tmp_path / "downloads").exists()


def test_offline_the_error_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded \(no route\); set RANKER_DATA"):
        locate("ml-100k", FILES, None, tmp_path / "downloads", _offline)


def test_without_any_data_a_generated_catalogue_takes_its_place_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_fetch", _offline)
    source = read_source("ml-100k", None, tmp_path)
    assert source.name == "generated"  # what is prepared under the name ml-100k is left as it is
    assert source.interactions.name == "generated catalogue"
    assert "GENERATED CATALOGUE, 'generated': no real users or items" in source.notice


def test_a_wrongly_named_folder_is_never_replaced_by_generated_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data is"):
        read_source("ml-100k", tmp_path, tmp_path)


def test_an_unknown_data_set_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set 'netflix'; there are ml-100k, .*generated"):
        read_source("netflix", None, tmp_path)
