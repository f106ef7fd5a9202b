"""The guard and reports refuse an unreadable experiments file with its line, and show no text of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.experiments_file import parsed
from contract.command_line import CommandError
from contract.experiments.file import read_experiments
from contract.experiments.problems import ExperimentsError


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("canary-1: [", "line 2: did not find expected node content"),
        ("a: 1\ncanary-1:\n\tx: 2", "line 3: found character that cannot start any token"),
        ("a: *canary-1", "line 1: aliases are not allowed"),
        ("a: !canary-1 x", "line 1: could not determine a constructor for the tag"),
        ("a: &canary-1 x\nb: &canary-1 y", "line 2: second occurrence"),
        ("canary-1: 1\nb: 2\ncanary-1: 3", "line 3: a key is given twice"),
        ('{"canary-1": 1,\n"canary-1": 3}', "line 2: a key is given twice"),
        ("canary-1: \x00", "neither YAML nor JSON in UTF-8 (ReaderError)"),
        ("canary-1: \udcff", "neither YAML nor JSON in UTF-8 (UnicodeDecodeError)"),
        ("a: 2026-13-45", "neither YAML nor JSON in UTF-8 (ValueError)"),
        ("[" * 600, "line 1: nested deeper than 16"),
        ("schema: 1\nrevision: a\nlayers: canary-1", "line 3: layers: Input should be a valid array"),
    ],
)
def test_a_file_that_the_service_refuses_is_refused_with_its_line(text: str, reason: str) -> None:
    content = text.encode(errors="surrogateescape")
    with pytest.raises(CommandError) as caught:
        parsed(Path("e.yaml"), content)
    assert str(caught.value) == f"e.yaml: not an experiments file: {reason}"
    assert "canary" not in str(caught.value)
    with pytest.raises(ExperimentsError):
        read_experiments(content)
