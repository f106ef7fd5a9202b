"""Small synthetic data in the shape of MovieLens-100k, and prepared data made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.data.datasets import generated
from training.data.prepare import Prepared, load_prepared, prepare
from training.reporting.curves import Curves

GENRES = ("unknown", "Action", "Comedy", "Drama")


@pytest.fixture
def ml100k_folder(tmp_path: Path) -> Path:
    """Twelve users and ten items in `u.data`, `u.item`, `u.genre`; every user rated at least five items."""
    folder = tmp_path / "raw" / "ml-100k"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [
        f"{user}\t{item}\t{1 + (user + item) % 5}\t{880_000_000 + 60 * int(rng.integers(5))}"
        for user in range(1, 13)
        for item in rng.permutation(np.arange(1, 11))[: 5 + user % 5]
    ]
    (folder / "u.data").write_text("\n".join(rows) + "\n", encoding="utf-8")
    titles = ["Film é (1981)", *(f"Film {item} ({1980 + item})" for item in range(2, 11))]
    items = [
        f"{item}|{title}|01-Jan-{1980 + item}||http://x/{item}|0|{item % 2}|{1 - item % 2}|0"
        for item, title in enumerate(titles, start=1)
    ]
    (folder / "u.item").write_bytes(("\n".join(items) + "\n").encode("latin-1"))
    (folder / "u.genre").write_text("".join(f"{name}|{k}\n" for k, name in enumerate(GENRES)) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def replace_line(ml100k_folder: Path) -> Callable[[str, int, str], Path]:
    """Replace a line, counted from 1, of one of the files; returns the folder."""

    def replace(name: str, number: int, line: str) -> Path:
        path = ml100k_folder / name
        lines = path.read_bytes().decode("latin-1").split("\n")
        lines[number - 1] = line
        path.write_bytes("\n".join(lines).encode("latin-1"))
        return ml100k_folder

    return replace


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curves.png: it takes longer than a tiny training, and reporting/ has its tests."""
    monkeypatch.setattr(Curves, "end", lambda *_: None)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of prepared data sets with one in it, `small`: 40 users, 60 items."""
    folder = tmp_path_factory.mktemp("data")
    prepare(generated.load(users=40, items=60, events=20, seed=1), folder / "small", core=3)
    return folder


@pytest.fixture(scope="session")
def prepared(data: Path) -> Prepared:
    return load_prepared(data / "small")
