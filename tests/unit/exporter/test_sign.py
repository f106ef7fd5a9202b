"""Bundles are signed by a private key that only its owner can read."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from contract.bundle.manifest import MANIFEST, MODEL_CARD
from contract.bundle.signature import MAX_SIGNATURES, SIGNATURE, parse_signatures, signed_bytes
from exporter.errors import ExportError
from exporter.sign import main
from exporter.signing import SigningKey, make_key, sign_bundle
from service.bundles.bundle import load_bundle
from tests.support.builders import TinyModel


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return TinyModel().write(tmp_path / "bundles")


def test_the_commands_make_a_key_and_sign_a_bundle_that_exists(
    tmp_path: Path, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key"
    assert main(["new-key", str(key)]) == 0
    assert main(["bundle", str(key), str(directory)]) == 0
    said = capsys.readouterr().out
    assert said.count(SigningKey.read(key).id) == 2
    assert load_bundle(directory, max_bytes=10_000_000, signers=tmp_path / "key.pub")


def test_only_the_owner_can_read_a_new_private_key(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_no_key_is_ever_overwritten(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(ExportError, match="exists already"):
        make_key(tmp_path / "key")
    (tmp_path / "key.pub").unlink()
    with pytest.raises(ExportError, match="exists already"):
        make_key(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_a_key_that_every_user_can_read_is_refused(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o604)
    with pytest.raises(ExportError, match="every user can read it"):
        SigningKey.read(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)  # as Kubernetes mounts a secret for a group
    assert SigningKey.read(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_anything_else_is_no_private_key(tmp_path: Path, content: bytes | None) -> None:
    make_key(tmp_path / "key")
    path = tmp_path / "other"
    path.write_bytes((tmp_path / "key.pub").read_bytes() if content is None else content)
    path.chmod(0o600)
    with pytest.raises(ExportError, match="other: not a private key in PEM without a password"):
        SigningKey.read(path)


def test_an_altered_bundle_is_not_signed(tmp_path: Path, directory: Path) -> None:
    (directory / MODEL_CARD).write_text("another")
    with pytest.raises(ExportError, match=r"model_card\.md is not the file that the manifest describes"):
        sign_bundle(directory, make_key(tmp_path / "key"))
    assert not (directory / SIGNATURE).exists()


def test_a_second_signature_of_a_key_takes_the_place_of_its_first(tmp_path: Path, directory: Path) -> None:
    key, other = make_key(tmp_path / "key"), make_key(tmp_path / "other")
    for one in (key, other, key):
        sign_bundle(directory, one)
    assert set(parse_signatures((directory / SIGNATURE).read_bytes())) == {key.id, other.id}


def test_signatures_are_limited(tmp_path: Path, directory: Path) -> None:
    for number in range(MAX_SIGNATURES):
        sign_bundle(directory, make_key(tmp_path / f"key-{number}"))
    with pytest.raises(ExportError, match="has 8 signatures already"):
        sign_bundle(directory, make_key(tmp_path / "one-more"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_reads_the_keys_and_verifies_the_signature(tmp_path: Path, directory: Path) -> None:
    key = make_key(tmp_path / "key")
    sign_bundle(directory, key)
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(signed_bytes((directory / MANIFEST).read_bytes()))
    signature.write_bytes(parse_signatures((directory / SIGNATURE).read_bytes())[key.id])
    done = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "key.pub", "-rawin", "-in", message,
         "-sigfile", signature], capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.stdout.strip() == "Signature Verified Successfully", done.stderr
