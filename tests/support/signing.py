"""Keys and signed bundles for tests."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from exporter.signing import SigningKey, make_key, sign_bundle


class Signer(NamedTuple):
    """A private key, its public file, and its id."""

    key: SigningKey
    public: Path

    @classmethod
    def make(cls, folder: Path, name: str = "key") -> Signer:
        """Make a key pair in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(make_key(folder / name), folder / f"{name}.pub")

    def sign(self, directory: Path) -> Path:
        """Sign a bundle and return its directory."""
        sign_bundle(directory, self.key)
        return directory
