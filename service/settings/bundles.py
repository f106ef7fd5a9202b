"""The section `bundles`: the source of models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from service.settings.group import Group


class BundlesSettings(Group):
    """The source of models."""

    root: Path = Path("bundles")
    """Folder that contains the bundles as <model>/<version>/."""
    max_bytes: Annotated[int, Field(ge=1, le=2**40)] = 2**31
    """Maximum bytes of one bundle's files."""
    map_tables: bool = True
    """Map large tables from their files, which all processes then share; false reads them into memory."""
    max_memory_bytes: Annotated[int, Field(ge=2**28, le=2**42)] = 2**32
    """Maximum memory of the process that checks a bundle on the CPU; a bundle that needs more is refused."""
    load_timeout_ms: Annotated[int, Field(ge=1_000, le=3_600_000)] = 60_000
    """How long (ms) loading one bundle may take before the bundle is refused."""
    deadline_share: Annotated[float, Field(gt=0, le=1_000)] = 0.8
    """Share of `limits.deadline_ms` that the largest request may take; a slower bundle is refused at load."""
    signers: Path | None = None
    """Public keys, a file or folder of PEM: only bundles that one of them signed are served; empty serves all."""
    default_model: str = ""
    """The model to serve without an experiment file; empty means the only model in the folder."""
