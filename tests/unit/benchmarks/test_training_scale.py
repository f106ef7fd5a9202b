"""Training over a large catalogue is measured with the code that trains."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.training_scale import WAYS, made_up, main, recipe_of, train_some


@pytest.mark.parametrize("way", WAYS)
def test_every_way_trains(way: str) -> None:
    found = train_some(recipe_of(way, 8), made_up(300, users=20), steps=2)
    assert found["rows"] > 0
    assert found["peak_mib"] >= found["before_mib"] > 0


def test_made_up_items_are_as_popular_as_their_ranks_say() -> None:
    items = made_up(1_000, users=2_000).columns["items"]
    counts = np.bincount(items, minlength=1_001)[1:]
    assert items.min() >= 1
    assert items.max() <= 1_000
    assert counts[:10].sum() / counts[10:100].sum() == pytest.approx(
        (1 / np.arange(1, 11)).sum() / (1 / np.arange(11, 101)).sum(), rel=0.1
    )


def test_a_catalogue_of_no_size_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--items", "5"]) == 1
    assert "--items 5: from 100 to 10000000" in capsys.readouterr().err
