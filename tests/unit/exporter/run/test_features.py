"""The features of a run's items, as its bundle describes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import ExportError
from exporter.run.features import read_features
from tests.unit.models.cases import build

NAMES = ["", *map(str, range(1, 6))]
YEARS = ["", *map(str, range(1, 9))]


def written(directory: Path, **year: Any) -> Path:
    document = {"genres": {"names": NAMES}, "year": {"names": YEARS, **year}, "not read": {"names": [""]}}
    (directory / "features.json").write_text(json.dumps(document))
    return directory


def test_kinds_come_from_the_mapping_or_from_the_codes(tmp_path: Path) -> None:
    model = build("fmlp-new-items")
    found = read_features(written(tmp_path), model)
    assert found is not None
    assert [(one.name, one.kind, one.values) for one in found.specs] == [("genres", "list", 3), ("year", "category", 1)]
    assert json.loads(found.content()) == {"genres": NAMES[1:], "year": YEARS[1:]}
    for described, kind in (({"kind": "words"}, "words"), ({"edges": [1, 2, 3, 4, 5, 6, 7]}, "number")):
        one = read_features(written(tmp_path, **described), model)
        assert one is not None
        assert one.specs[1].kind == kind
        assert ("year" in one.names) == (kind == "words")


def test_a_model_that_describes_nothing_and_a_run_without_the_file_have_none(tmp_path: Path) -> None:
    assert read_features(written(tmp_path), build("fmlp-side")) is None
    (tmp_path / "features.json").unlink()
    assert read_features(tmp_path, build("fmlp-new-items")) is None


@pytest.mark.parametrize("year", [{"names": YEARS[:-1]}, {"edges": [2, 1]}, {"kind": "colour"}, {"names": None}])
def test_a_file_that_does_not_fit_the_model_is_an_error(tmp_path: Path, year: dict[str, Any]) -> None:
    with pytest.raises(ExportError, match=r"features\.json"):
        read_features(written(tmp_path, **year), build("fmlp-new-items"))
