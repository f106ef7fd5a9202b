"""The bundles on disk: `<root>/<model>/<version>/`, complete when the manifest exists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from contract.bundle.manifest import MANIFEST

# As in contract.bundle.manifest; a model's name in an experiment file becomes a path here, so it must be a plain name.
_MODEL: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
_MAX_VERSIONS: Final = 1_000
_PIECES: Final = re.compile(r"\d+|\D+")


class BundleRegistry:
    """Reads the directory on every call: bundles may arrive while the service runs.

    Args:
        root: the folder of the models' directories; a missing one counts as empty.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[str]:
        """Return the names of models that have a complete version."""
        return [name for name in _directories(self.root, _MODEL) if self.versions(name)]

    def versions(self, model: str) -> Sequence[str]:
        """Return the complete versions of a model, oldest first: 2 is before 10."""
        if not _MODEL.fullmatch(model):
            return ()
        found = _directories(self.root / model, _VERSION)[:_MAX_VERSIONS]
        complete = [version for version in found if (self.root / model / version / MANIFEST).is_file()]
        return sorted(complete, key=_natural)

    def directory(self, model: str, version: str) -> Path | None:
        """Return the path of a bundle, or None if these are not names of one."""
        if not _MODEL.fullmatch(model) or not _VERSION.fullmatch(version):
            return None
        return self.root / model / version


def _directories(root: Path, pattern: re.Pattern[str]) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir() if pattern.fullmatch(path.name) and path.is_dir())
    except OSError:
        return []


def _natural(version: str) -> list[tuple[int, int, str]]:
    """Return a key that orders runs of digits by their number, and before letters."""
    pieces: list[str] = _PIECES.findall(version)
    return [(0, int(piece), piece) if piece.isdigit() else (1, 0, piece) for piece in pieces]
