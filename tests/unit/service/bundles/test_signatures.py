"""With signers, a bundle is read only if one of them signed it."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.bundle import manifest as names
from contract.bundle.signature import MAX_SIGNATURES, SIGNATURE, key_id
from service.bundles import bundle as reader
from service.bundles.bundle import Bundle, BundleError, load_bundle
from service.bundles.files import UntrustedBundleError, identity_of
from service.bundles.signatures import SignersError, read_signers
from tests.support.builders import TinyModel
from tests.support.signing import Signer

ROOT = Path(__file__).resolve().parents[4]
OLD, NEW = TinyModel(version="1"), TinyModel(version="2", offset=5)


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.make(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.make(tmp_path_factory.mktemp("others"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return OLD.write(tmp_path / "bundles")


def load(directory: Path, signers: Path) -> Bundle:
    return load_bundle(directory, max_bytes=10_000_000, signers=signers)


def test_a_signed_bundle_is_loaded_with_and_without_signers(directory: Path, signer: Signer) -> None:
    signer.sign(directory)
    assert load(directory, signer.public).name == "tiny@1"
    assert load_bundle(directory, max_bytes=10_000_000).name == "tiny@1"


def test_an_unsigned_bundle_is_refused(directory: Path, signer: Signer) -> None:
    with pytest.raises(UntrustedBundleError, match=r"bundle tiny/1: it is not signed: manifest.sig is missing"):
        load(directory, signer.public)


def test_the_signature_of_another_key_is_refused_and_named(directory: Path, signer: Signer, other: Signer) -> None:
    other.sign(directory)
    with pytest.raises(UntrustedBundleError, match=f"signed by {other.key.id}: not a key of bundles.signers"):
        load(directory, signer.public)


def test_another_key_under_the_id_of_a_signer_is_refused(directory: Path, signer: Signer, other: Signer) -> None:
    path = other.sign(directory) / SIGNATURE
    path.write_bytes(path.read_bytes().replace(other.key.id.encode(), signer.key.id.encode()))
    with pytest.raises(UntrustedBundleError, match="is not of this manifest"):
        load(directory, signer.public)


def test_one_signer_among_several_signatures_is_enough(directory: Path, signer: Signer, other: Signer) -> None:
    signer.sign(other.sign(directory))
    assert load(directory, signer.public)
    assert load(directory, other.public)


@pytest.mark.parametrize("place", [0, 100, -2])
def test_an_altered_manifest_is_refused(directory: Path, signer: Signer, place: int) -> None:
    path = signer.sign(directory) / names.MANIFEST
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UntrustedBundleError, match="is not of this manifest"):
        load(directory, signer.public)


def test_an_altered_file_is_refused_even_if_a_new_manifest_agrees_with_it(directory: Path, signer: Signer) -> None:
    signer.sign(directory)
    (directory / names.MODEL_CARD).write_text("another")
    with pytest.raises(BundleError, match=r"model_card\.md is not the file that the manifest describes"):
        load(directory, signer.public)
    signature = (directory / SIGNATURE).read_bytes()
    (directory / SIGNATURE).unlink()
    OLD.seal(directory)
    (directory / SIGNATURE).write_bytes(signature)
    with pytest.raises(UntrustedBundleError, match="is not of this manifest"):
        load(directory, signer.public)


def test_the_signature_of_another_bundle_is_refused(directory: Path, signer: Signer) -> None:
    newer = signer.sign(NEW.write(directory.parents[1]))
    signer.sign(directory)
    shutil.copy(directory / SIGNATURE, newer / SIGNATURE)
    with pytest.raises(UntrustedBundleError, match="is not of this manifest"):
        load(newer, signer.public)


def test_an_older_bundle_is_not_served_as_a_newer_one(directory: Path, signer: Signer) -> None:
    """Under its own name a signed bundle of any age is served: docs/security.md tells how to withdraw it."""
    signer.sign(directory)
    as_newer = directory.parent / "2"
    shutil.copytree(directory, as_newer)
    with pytest.raises(BundleError, match="names tiny/1, which does not match its directory"):
        load(as_newer, signer.public)
    assert load(directory, signer.public)


def test_keys_rotate_without_signing_old_bundles_again(
    tmp_path: Path, directory: Path, signer: Signer, other: Signer
) -> None:
    newer = other.sign(NEW.write(directory.parents[1]))
    signer.sign(directory)
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copy(signer.public, keys / "2025.pub")
    before = identity_of(keys)
    with pytest.raises(UntrustedBundleError):
        load(newer, keys)
    shutil.copy(other.public, keys / "2026.pub")
    assert identity_of(keys) != before  # the loader then tries a refused bundle again
    assert load(newer, keys)
    assert load(directory, keys)
    (keys / "2025.pub").unlink()
    assert load(newer, keys)
    with pytest.raises(UntrustedBundleError):
        load(directory, keys)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content.replace(b"ed25519", b"ed448  "),
        lambda content: content.upper(),
        lambda content: content + b"\n",
        lambda content: content * (MAX_SIGNATURES + 1),
        lambda content: b"{" * 1000,
        lambda content: content.replace(b"\n", b"\r\n"),
    ],
)
def test_a_malformed_file_of_signatures_is_refused(
    directory: Path, signer: Signer, spoil: Callable[[bytes], bytes]
) -> None:
    path = signer.sign(directory) / SIGNATURE
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BundleError, match=r"manifest\.sig"):
        load(directory, signer.public)


def test_nothing_is_parsed_before_the_signature_is_checked(
    directory: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_arguments: object, **_names: object) -> None:
        raise AssertionError("parsed")

    for name in ("parse_manifest", "read_files", "read_npz", "read_npy", "refuse_unsafe", "Vocabulary"):
        monkeypatch.setattr(reader, name, never)
    with pytest.raises(UntrustedBundleError):
        load(directory, signer.public)
    signer.sign(directory)
    with pytest.raises(BundleError, match="parsed"):  # so the names are those of the readers
        load(directory, signer.public)


def test_a_link_in_place_of_the_signature_is_refused(directory: Path, signer: Signer) -> None:
    path = signer.sign(directory) / SIGNATURE
    path.rename(directory.parent / "elsewhere")
    path.symlink_to(directory.parent / "elsewhere")
    with pytest.raises(BundleError, match=r"manifest\.sig is a link"):
        load(directory, signer.public)


def test_a_file_may_have_several_keys_and_hidden_names_of_a_folder_are_skipped(
    tmp_path: Path, signer: Signer, other: Signer
) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "keys.pem").write_bytes(signer.public.read_bytes() + b"\n" + other.public.read_bytes())
    assert set(read_signers(tmp_path)) == {signer.key.id, other.key.id}
    assert set(read_signers(tmp_path / "keys.pem")) == {signer.key.id, other.key.id}


def test_the_id_of_a_key_is_a_digest_of_its_32_bytes(signer: Signer) -> None:
    [(name, key)] = read_signers(signer.public).items()
    assert name == key_id(key.public_bytes_raw())


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("empty.pub", b"", "not PEM public keys"),
        ("text.pub", b"ssh-ed25519 AAAA", "not PEM public keys"),
        ("bad.pub", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "a key is damaged"),
        ("big.pub", b" " * 100_000, "not PEM public keys"),
    ],
)
def test_a_folder_with_anything_but_public_keys_is_refused(
    tmp_path: Path, signer: Signer, name: str, content: bytes, problem: str
) -> None:
    shutil.copy(signer.public, tmp_path / "good.pub")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SignersError, match=f"{name}: {problem}"):
        read_signers(tmp_path)


def test_a_private_key_among_the_signers_is_refused_with_advice(signer: Signer) -> None:
    with pytest.raises(SignersError, match="a private key: keep it away from services"):
        read_signers(signer.public.with_suffix(""))


def test_no_key_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SignersError, match="no public key"):
        read_signers(tmp_path)
    with pytest.raises(SignersError, match="No such file"):
        read_signers(tmp_path / "missing")


def calls_of_load_bundle() -> Iterator[tuple[str, ast.Call]]:
    for room in ("service", "deploy"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load_bundle":
                    yield str(path.relative_to(ROOT)), node


def test_every_place_that_loads_a_bundle_passes_the_signers() -> None:
    found = list(calls_of_load_bundle())
    assert {path for path, _ in found} >= {"service/inference/loading.py", "service/inference/proof.py"}
    assert [path for path, call in found if "signers" not in {word.arg for word in call.keywords}] == []


def test_the_service_imports_the_check_only_where_signers_are_set() -> None:
    for path in (ROOT / "service").rglob("*.py"):
        for node in ast.parse(path.read_bytes()).body:  # of the module itself
            if isinstance(node, ast.ImportFrom):
                assert node.module != "service.bundles.signatures", path
