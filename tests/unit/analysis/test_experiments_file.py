"""The guard and reports refuse an unreadable experiments file with its line, and show no text of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.experiments_file import parsed
from contract.command_line import CommandError


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("canary-1: [", "line 1: expected the node content, but found '<stream end>'"),
        ("a: 1\ncanary-1:\n\tx: 2", "line 3: found character '\\t' that cannot start any token"),
        ("a: *canary-1", "line 1: found undefined alias"),
        ("a: !canary-1 x", "line 1: could not determine a constructor for the tag"),
        ("a: &canary-1 x\nb: &canary-1 y", "line 2: second occurrence"),
        ("canary-1: \x00", "ReaderError"),
        ("a: 2026-13-45", "ValueError"),
        ("[" * 600, "RecursionError"),
    ],
)
def test_a_file_that_is_not_yaml_is_refused_by_its_line(text: str, reason: str) -> None:
    with pytest.raises(CommandError) as caught:
        parsed(Path("e.yaml"), text)
    assert str(caught.value) == f"e.yaml: not a readable experiments file: {reason}"
