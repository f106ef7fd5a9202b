"""API keys: how they are made, and what is kept of them.

A key is 256 random bits. So its SHA-256 is enough at rest: no one can guess the key of a hash, however fast the hash
is. A slow hash (bcrypt, Argon2) protects passwords that people choose, and would cost each request milliseconds.
"""

from __future__ import annotations

import re
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Final

from contract.command_line import CommandError
from contract.secret_files import SecretFileError, read_secret

PREFIX: Final = "rk_"  # lets secret scanners find a key that was committed by mistake
KEY_BYTES: Final = 32
KEY_LENGTH: Final = len(PREFIX) + 43  # base64url of 32 bytes, without padding
HASH_PREFIX: Final = "sha256:"
HASH: Final = re.compile(rf"{HASH_PREFIX}[0-9a-f]{{64}}")
_SHOWN: Final = 8


def new_key() -> str:
    """Return a new key."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def read_key(path: Path | None) -> str | None:
    """Return the key in the file of an option `--key-file`; None without a file.

    Raises:
        CommandError: it cannot be used; the message has no part of it.
    """
    if path is None:
        return None
    try:
        key = read_secret(str(path))
    except SecretFileError as error:
        raise CommandError(f"--key-file: {error}") from error
    if not (key.isascii() and key.isprintable()):
        raise CommandError("--key-file: the file has more than one key, or something else")
    return key


def digest_of(key: bytes) -> bytes:
    """Return what is compared."""
    return sha256(key).digest()


def hash_of(key: str) -> str:
    """Return a key's hash as the access file has it."""
    return HASH_PREFIX + digest_of(key.encode()).hex()


def key_id(digest: bytes) -> str:
    """Return the name of a key in logs: the beginning of its hash, which is of no use to a thief."""
    return digest.hex()[:_SHOWN]
