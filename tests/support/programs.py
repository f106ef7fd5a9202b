"""Programs that come with the machine rather than with the lock."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def needed(name: str, package: str) -> Path:
    """Return the path of a program; without it, skip on somebody's machine and fail in CI, where it must be."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    reason = f"{name} is not installed (Debian package: {package})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
