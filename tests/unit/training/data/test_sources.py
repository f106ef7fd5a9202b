from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training.data.datasets import locate as locate_module
from training.data.datasets.interactions import DataError, Interactions, default_actions
from training.data.prepare import prepare
from training.data.sources import DATA_SETS, Published, counts_table, read_source


def _interactions(**others: object) -> Interactions:
    numbers = np.arange(2, dtype=np.int64)
    times = 1_700_000_000_000 + numbers
    return Interactions("toy", "a test", "d", "uu", "ab", times, default_actions(2), numbers, numbers, **others)  # type: ignore[arg-type]


def _shown(raw: Interactions, folder: Path, published: tuple[Published, ...] = ()) -> str:
    console = Console(width=100)
    provenance, _ = prepare(raw, folder, core=1)
    with console.capture() as captured:
        console.print(counts_table(provenance, published))
    return captured.get()


def test_every_data_set_by_name_has_files_and_published_counts() -> None:
    assert set(DATA_SETS) == {
        "ml-100k",
        "ml-1m",
        "amazon-beauty",
        "amazon-toys-and-games",
        "amazon-musical-instruments",
        "kuairand-pure",
    }
    assert all(known.files and known.published for known in DATA_SETS.values())
    assert DATA_SETS["kuairand-pure"].core == 1


def test_a_data_set_without_an_archive_is_never_replaced_by_generated_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate_module, "ROOT", tmp_path / "checkout")
    monkeypatch.delenv("RANKER_DATA", raising=False)
    with pytest.raises(DataError, match=r"ml-1m is not next to the checkout.* contains ml-1m/ \(movies\.dat"):
        read_source("ml-1m", None, tmp_path)


def test_the_core_is_that_of_the_data_set(ml100k_folder: Path, tmp_path: Path) -> None:
    assert read_source("ml-100k", ml100k_folder, tmp_path).core == 5
    assert read_source("generated", None, tmp_path).published == ()


def test_counts_stand_beside_the_published_ones(tmp_path: Path) -> None:
    text = _shown(_interactions(read={"log_rows": 1234}), tmp_path / "d", (Published("a paper", 10, 20, 3000),))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows == [["read", "1", "2", "2"], ["prepared", "1", "2", "2"], ["a paper", "10", "20", "3,000"]]
    assert "log rows 1,234" in " ".join(text.split())
    assert "made up" not in text


def test_made_up_times_are_said_to_be_so(tmp_path: Path) -> None:
    assert "made up" in " ".join(_shown(_interactions(has_times=False), tmp_path / "d").split())
