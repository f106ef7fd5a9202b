"""The signature of a bundle: Ed25519 over its manifest, which has the digest of every other file (docs/contract.md).

`manifest.sig` has a line for each key that signed, all of one fixed form: a reader that trusts no byte of a bundle yet
compares it with a pattern before it does anything else. Keys and signatures are bytes here; cryptography is needed only
to make and to verify them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

SIGNATURE: Final = "manifest.sig"
MAX_SIGNATURES: Final = 8
MAX_BYTES: Final = MAX_SIGNATURES * 154
"""The largest size of the file: all its lines have the same length."""

_LINE: Final = re.compile(rb"ed25519 ([0-9a-f]{16}) ([0-9a-f]{128})\n")
_FILE: Final = re.compile(rb"(?:ed25519 [0-9a-f]{16} [0-9a-f]{128}\n){1,%d}" % MAX_SIGNATURES)
_SUBJECT: Final = b"ranker bundle 1\n"  # a signature that the same key gives to something else never fits a bundle


class SignatureError(ValueError):
    """The file is not a list of signatures."""


def signed_bytes(manifest: bytes) -> bytes:
    """Return what is signed: a fixed line and the bytes of `manifest.json`."""
    return _SUBJECT + manifest


def key_id(public_key: bytes) -> str:
    """Return the name of a public key of 32 bytes: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def parse_signatures(content: bytes) -> dict[str, bytes]:
    """Return the signature of each key by its id.

    Raises:
        SignatureError: malformed, or more than 8 signatures.
    """
    if len(content) > MAX_BYTES or not _FILE.fullmatch(content):
        raise SignatureError(f"{SIGNATURE} is not a list of at most {MAX_SIGNATURES} signatures")
    return {key.decode(): bytes.fromhex(value.decode()) for key, value in _LINE.findall(content)}


def format_signatures(signatures: Mapping[str, bytes]) -> bytes:
    """Return the content of the file."""
    return b"".join(f"ed25519 {key} {value.hex()}\n".encode() for key, value in sorted(signatures.items()))
