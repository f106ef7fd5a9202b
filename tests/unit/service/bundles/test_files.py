"""Files are checked while they stream past: what is too large or altered is never held in memory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from contract.bundle import manifest as names
from service.bundles import files as bundle_files
from service.bundles.bundle import load_bundle
from service.bundles.files import BundleError, identity_of
from tests.support.builders import TinyModel

ROOT = Path(__file__).parents[4]
TINY = TinyModel()
MAX_BYTES = 2**31
MIB = 2**20

# Prints the result and by how many bytes loading raised the peak of resident memory, in bytes.
_LOAD = """
import re, sys
from pathlib import Path
from service.bundles.bundle import BundleError, load_bundle

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

before = peak()
try:
    load_bundle(Path(sys.argv[1]), max_bytes=int(sys.argv[2]))
    said = "loaded"
except BundleError as error:
    said = str(error)
print(peak() - before)
print(said)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return TINY.write(tmp_path)


def slow(name: str) -> Any:
    """A further file for `make test-slow`: each takes a process of its own; Any: pytest does not name the type."""
    return pytest.param(name, marks=pytest.mark.slow)


def loading(directory: Path, max_bytes: int = MAX_BYTES) -> tuple[int, str]:
    """Load in a process of its own; return by how many bytes its peak memory rose, and what came of it."""
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(directory), str(max_bytes)],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    rose, said = done.stdout.splitlines()
    return int(rose), said


@pytest.mark.parametrize("name", [names.MANIFEST, slow(names.CATALOGUE), slow(names.ENCODE)])
def test_a_file_of_3_gib_is_refused_without_being_read(directory: Path, name: str) -> None:
    os.truncate(directory / name, 3 * 2**30)  # sparse: takes no disk
    rose, said = loading(directory)
    assert f"{name} takes the bundle over its size limit" in said
    assert rose < 16 * MIB


@pytest.mark.parametrize("name", [names.CATALOGUE, slow(names.GOLDEN), slow(names.MODEL_CARD)])
def test_a_large_file_with_another_digest_is_refused_without_being_held(directory: Path, name: str) -> None:
    os.truncate(directory / name, 64 * MIB)
    rose, said = loading(directory)
    assert f"{name} is not the file that the manifest describes" in said
    assert rose < 16 * MIB


def test_files_are_too_large_together_before_any_is_read(directory: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in directory.iterdir()}
    assert load_bundle(directory, max_bytes=sum(sizes.values()))
    with pytest.raises(BundleError, match="size limit"):
        load_bundle(directory, max_bytes=sum(sizes.values()) - 1)


def test_a_model_card_is_checked_and_never_held(directory: Path) -> None:
    (directory / names.MODEL_CARD).write_bytes(b" " * 64 * MIB)
    TINY.seal(directory)
    rose, said = loading(directory)
    assert said == "loaded"
    assert rose < 32 * MIB


def packed(content: bytes, claimed: int) -> bytes:
    """Return an archive with golden.npz's arrays, whose `scores` unpack to more than the archive claims."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("encode.items", "candidates", "rows"):
            archive.writestr(f"{name}.npy", b"")
        archive.writestr("scores.npy", content)
    size = len(content).to_bytes(4, "little")
    return file.getvalue().replace(size, claimed.to_bytes(4, "little"))


def test_golden_rows_that_unpack_to_more_than_they_claim_are_not_unpacked(directory: Path) -> None:
    (directory / names.GOLDEN).write_bytes(packed(bytes(100 * MIB), claimed=80))
    TINY.seal(directory)
    rose, said = loading(directory)
    assert said != "loaded"
    assert rose < 32 * MIB


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_golden_rows_of_another_packing_are_refused(directory: Path, packing: int) -> None:
    with zipfile.ZipFile(directory / names.GOLDEN) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(directory / names.GOLDEN, "w", packing) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    TINY.seal(directory)
    with pytest.raises(BundleError, match="packed in an unsupported way"):
        load_bundle(directory, max_bytes=MAX_BYTES)


def test_a_damaged_member_of_the_golden_rows_is_a_refusal(directory: Path) -> None:
    content = bytearray((directory / names.GOLDEN).read_bytes())
    start = content.index(b"\x93NUMPY")
    content[start + 200] ^= 1
    (directory / names.GOLDEN).write_bytes(content)
    TINY.seal(directory)
    with pytest.raises(BundleError):
        load_bundle(directory, max_bytes=MAX_BYTES)


def test_a_vocabulary_larger_than_its_ids_can_be_is_refused(directory: Path) -> None:
    (directory / names.ITEMS).write_text(json.dumps({"ids": TINY.item_ids}) + " " * 100_000)
    TINY.seal(directory)
    with pytest.raises(BundleError, match=r"items\.json is larger than 20 ids can be"):
        load_bundle(directory, max_bytes=MAX_BYTES)


@pytest.mark.parametrize("what", ["overwritten", "cut", "grown"])
def test_a_file_that_changes_between_the_check_and_the_reading_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The same open file is read twice: bytes that were not checked are never held."""
    path, check = directory / names.SCORE, bundle_files._streamed_digest
    content = path.read_bytes()

    def check_then_change(file: io.FileIO, size: int) -> str:
        found = check(file, size)  # type: ignore[arg-type]
        if size == len(content):
            path.write_bytes({"overwritten": bytes(size), "cut": content[:10], "grown": content + b"more"}[what])
        return found

    monkeypatch.setattr(bundle_files, "_streamed_digest", check_then_change)
    if what == "grown":  # what was checked is still there, and no more than that is held
        assert load_bundle(directory, max_bytes=MAX_BYTES).score_model == content
    else:
        with pytest.raises(BundleError, match=r"score\.onnx changed while it was read"):
            load_bundle(directory, max_bytes=MAX_BYTES)


def test_a_file_replaced_during_the_loading_changes_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, check = (directory / names.SCORE).read_bytes(), bundle_files._streamed_digest

    def check_then_replace(file: io.FileIO, size: int) -> str:
        (directory / "new").write_bytes(b"another")
        (directory / "new").replace(directory / names.SCORE)
        return check(file, size)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle_files, "_streamed_digest", check_then_replace)
    assert load_bundle(directory, max_bytes=MAX_BYTES).score_model == content


def test_the_identity_of_a_folder_changes_with_any_of_its_files(directory: Path) -> None:
    before = identity_of(directory)
    assert identity_of(directory) == before
    path = directory / names.SCORE
    content = path.read_bytes()
    path.write_bytes(content)
    rewritten = identity_of(directory)
    assert rewritten != before
    path.rename(directory / "moved")
    assert identity_of(directory) not in (before, rewritten)
    assert identity_of(directory / "nowhere") == ()


def test_the_chunks_in_which_files_stream_past_do_not_change_their_digest(directory: Path) -> None:
    for size in (0, 1, bundle_files.CHUNK_BYTES - 1, bundle_files.CHUNK_BYTES, 2 * bundle_files.CHUNK_BYTES + 1):
        content = zlib.crc32(bytes([size % 251])).to_bytes(4, "little") * (size // 4 + 1)
        (directory / names.MODEL_CARD).write_bytes(content[:size])
        TINY.seal(directory)
        assert load_bundle(directory, max_bytes=MAX_BYTES)
