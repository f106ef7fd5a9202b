"""Whose bundles are served: the public keys of `bundles.signers`, and the check of a manifest's signature.

Only this file of the service imports cryptography, and it is imported only where signers are set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from contract.bundle.signature import SIGNATURE, SignatureError, key_id, parse_signatures, signed_bytes
from service.bundles.files import UntrustedBundleError

_BLOCK: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\n?", re.DOTALL)
_MAX_KEY_BYTES: Final = 65_536
_MAX_FILES: Final = 100

Signers = Mapping[str, Ed25519PublicKey]  # by key id


class SignersError(ValueError):
    """The keys cannot be used; the message names the file."""


def read_signers(path: Path) -> Signers:
    """Return the public keys of a file or folder: PEM, one or more keys in a file.

    Raises:
        SignersError: there is none, or a file has anything but public Ed25519 keys.
    """
    try:
        keys = [key for file in _files(path) for key in _keys(file)]
    except OSError as error:
        raise SignersError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from error
    if not keys:
        raise SignersError(f"{path}: no public key")
    return {key_id(key.public_bytes(Encoding.Raw, PublicFormat.Raw)): key for key in keys}


def check_signature(manifest: bytes, signature: bytes | None, signers: Signers) -> str:
    """Return the id of the key that signed a manifest.

    Args:
        manifest: the file's bytes; nothing of it is parsed.
        signature: the bytes of `manifest.sig`; None if there is none.
        signers: the keys that are accepted; the signature of one of them is enough.

    Raises:
        UntrustedBundleError: no accepted key signed it.
    """
    if signature is None:
        raise UntrustedBundleError(f"it is not signed: {SIGNATURE} is missing, and bundles.signers is set")
    try:
        signatures = parse_signatures(signature)
    except SignatureError as error:
        raise UntrustedBundleError(str(error)) from error
    known = signers.keys() & signatures.keys()
    if not known:
        raise UntrustedBundleError(f"signed by {', '.join(sorted(signatures))}: not a key of bundles.signers")
    for key in sorted(known):
        if _fits(signers[key], signatures[key], manifest):
            return key
    raise UntrustedBundleError(f"the signature of {', '.join(sorted(known))} is not of this manifest")


def _fits(key: Ed25519PublicKey, signature: bytes, manifest: bytes) -> bool:
    try:
        key.verify(signature, signed_bytes(manifest))
    except InvalidSignature:
        return False
    return True


def _files(path: Path) -> list[Path]:
    """Return the files of a folder; hidden names are skipped, because mounted secrets of Kubernetes have them."""
    if not path.is_dir():
        return [path]
    files = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    if len(files) > _MAX_FILES:
        raise SignersError(f"{path}: more than {_MAX_FILES} files")
    return files


def _keys(file: Path) -> Iterator[Ed25519PublicKey]:
    with file.open("rb") as opened:
        content = opened.read(_MAX_KEY_BYTES + 1)
    blocks: list[bytes] = _BLOCK.findall(content)
    if len(content) > _MAX_KEY_BYTES or not blocks or _BLOCK.sub(b"", content).strip():
        private = b"PRIVATE KEY" in content
        raise SignersError(
            f"{file}: {'a private key: keep it away from services' if private else 'not PEM public keys'}"
        )
    for block in blocks:
        yield _key(file, block)


def _key(file: Path, block: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(block)
    except ValueError as error:
        raise SignersError(f"{file}: a key is damaged") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignersError(f"{file}: a key is not of Ed25519")
    return key
