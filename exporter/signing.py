"""Signatures of bundles, and the keys that make them (docs/security.md).

A private key is a PKCS8 PEM file of Ed25519; its public key is a PEM file beside it. OpenSSL reads and makes both.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.bundle.manifest import MANIFEST, read_manifest
from contract.bundle.signature import (
    MAX_SIGNATURES,
    SIGNATURE,
    SignatureError,
    format_signatures,
    key_id,
    parse_signatures,
    signed_bytes,
)
from contract.command_line import explained
from contract.files import write_whole
from exporter.errors import ExportError

_PRIVATE: Final = 0o600
_MAX_KEY_BYTES: Final = 65_536


class SigningKey:
    """A private key.

    Args:
        key: of Ed25519.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.id = key_id(key.public_key().public_bytes_raw())

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """Read a key file.

        Raises:
            ExportError: missing, readable by all users, or not a private Ed25519 key without a password.
        """
        try:
            with path.open("rb") as file:
                everyone = os.fstat(file.fileno()).st_mode & stat.S_IROTH
                content = file.read(_MAX_KEY_BYTES)
        except OSError as error:
            raise ExportError(explained(error)) from None
        if everyone:
            raise ExportError(f"{path}: every user can read it; chmod 600 it, and make a new key if it was copied")
        try:
            key = serialization.load_pem_private_key(content, password=None)
        except (ValueError, TypeError):  # TypeError: it has a password
            raise ExportError(f"{path}: not a private key in PEM without a password") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ExportError(f"{path}: not a key of Ed25519")
        return cls(key)

    def sign(self, manifest: bytes) -> bytes:
        """Return the signature of a manifest's bytes."""
        return self._key.sign(signed_bytes(manifest))


def make_key(path: Path) -> SigningKey:
    """Write a new key to a file that only its owner can read, and its public key to the same name with `.pub`.

    Raises:
        ExportError: one of the files exists, or cannot be written.
    """
    key, public = Ed25519PrivateKey.generate(), path.with_name(f"{path.name}.pub")
    pem = serialization.Encoding.PEM
    if public.exists():
        raise ExportError(f"{public} exists already")
    _write_new(
        path, _PRIVATE,
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )  # fmt: skip
    _write_new(public, 0o644, key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return SigningKey(key)


def sign_bundle(directory: Path, key: SigningKey) -> None:
    """Sign a bundle; the signatures of other keys stay.

    Raises:
        ManifestError, ExportError: it is not a complete bundle with the files of its manifest, or has too many
            signatures.
    """
    manifest = read_manifest(directory)
    for name, digest in manifest.files.items():
        if _digest(directory / name) != digest:
            raise ExportError(f"{directory / name} is not the file that the manifest describes (digest differs)")
    add_signature(directory, key)


def add_signature(directory: Path, key: SigningKey) -> None:
    """Sign the manifest as it is on disk; the signatures of other keys stay.

    Raises:
        ExportError: the manifest cannot be read, the file of signatures is malformed or full.
    """
    try:
        content = (directory / MANIFEST).read_bytes()
        signatures = _signatures(directory / SIGNATURE) | {key.id: key.sign(content)}
        if len(signatures) > MAX_SIGNATURES:
            raise ExportError(f"{directory / SIGNATURE} has {MAX_SIGNATURES} signatures already; remove it, then sign")
        write_whole(directory / SIGNATURE, format_signatures(signatures))
    except OSError as error:
        raise ExportError(explained(error)) from None


def _signatures(path: Path) -> dict[str, bytes]:
    try:
        return parse_signatures(path.read_bytes())
    except FileNotFoundError:
        return {}
    except SignatureError as error:
        raise ExportError(f"{path}: {error}; remove it, then sign") from None


def _digest(path: Path) -> str:
    """Return the digest of a bundle's file. A link is refused as services refuse it, and a pipe is not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ExportError(f"{path} is a link or cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ExportError(f"{path} is not a regular file")
    with os.fdopen(handle, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_new(path: Path, mode: int, content: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    except FileExistsError:
        raise ExportError(f"{path} exists already") from None
    except OSError as error:
        raise ExportError(explained(error)) from None
