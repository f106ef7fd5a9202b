"""The start of a shadow's process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.shadow.link import Link, ShadowFailed
from service.shadow.messages import Start
from tests.support.processes import few_files, open_files

pytestmark = pytest.mark.anyio


async def test_a_service_with_too_many_open_files_has_no_shadow_for_now(tmp_path: Path) -> None:
    start = Start(str(tmp_path), 1, map_tables=False, provider="cpu", threads=1, memory_bytes=2**30, signers=None)
    before = open_files(os.getpid())
    for more in (0, 2):  # none for the sockets, none for the process
        with (
            few_files(os.getpid(), more),
            pytest.raises(ShadowFailed, match=r"could be started: .*open files"),
        ):
            await Link.start(start, 10)
    assert open_files(os.getpid()) == before
