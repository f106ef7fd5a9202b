"""From a data set to released bundles, by the rooms' own command lines; what is already there is used again.

A release is known by a key: the digest of its recipe, its prepared data and the code that made it. Its record stands in
`.demo/<model>-<key>.json` beside the checkout's other products and names the run and the bundle.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from deploy.processes import ROOT
from deploy.trainings import run_side_by_side

DATASET = "ml-100k"
_CODE = ("contract", "models", "training", "exporter")


@dataclass(frozen=True)
class Places:
    """Where the products of a demo lie."""

    data: Path = ROOT / "data"
    runs: Path = ROOT / "runs"
    bundles: Path = ROOT / "bundles"
    records: Path = ROOT / ".demo"

    @property
    def prepared(self) -> Path:
        """The prepared data set."""
        return self.data / DATASET


@dataclass(frozen=True)
class Release:
    """A trained and exported model."""

    model: str
    version: str
    run: Path
    reused: bool

    def metrics(self) -> dict[str, float]:
        """Return the run's test metrics by name."""
        document = json.loads((self.run / "metrics.json").read_text(encoding="utf-8"))
        return {name: float(value) for name, value in document["test"].items()}


def recipe_of(model: str, *, short: bool) -> Path:
    """Return the recipe of a model: the short one where there is one and it is asked for.

    Raises:
        FileNotFoundError: there is no recipe for this model.
    """
    folder = ROOT / "training" / "recipes" / DATASET
    candidates = [folder / "demo" / f"{model}.toml"] if short else []
    for path in [*candidates, folder / f"{model}.toml"]:
        if path.exists():
            return path
    known = sorted(path.stem for path in folder.glob("*.toml"))
    raise FileNotFoundError(f"no recipe for model {model!r}; there are: {', '.join(known)}")


def prepare(places: Places) -> None:
    """Run `python -m training prepare`; what is prepared already is used again."""
    _run("training", "prepare", DATASET, "--out", str(places.data))


def release(places: Places, recipes: Mapping[str, Path], console: Console) -> list[Release]:
    """Return a released model for each recipe; those that are not there are trained side by side and exported now."""
    records = {model: places.records / f"{model}-{_key(places, recipe)}.json" for model, recipe in recipes.items()}
    known = {model: _read(record, places, model) for model, record in records.items()}
    missing = {model: recipe for model, recipe in recipes.items() if known[model] is None}
    before = {model: set(_runs(places, model)) for model in missing}
    _train(places, missing, console)
    for model in missing:
        run = max(set(_runs(places, model)) - before[model], key=lambda path: path.stat().st_mtime)
        known[model] = _export(places, model, run, records[model])
    return [found for found in known.values() if found is not None]


def _train(places: Places, recipes: Mapping[str, Path], console: Console) -> None:
    """Train by all recipes at once, one core each: models this small gain little from a second thread."""
    where = ("--data", str(places.data), "--out", str(places.runs), "--threads", "1", "--report")
    run_side_by_side({model: ("training", "train", str(recipe), *where) for model, recipe in recipes.items()}, console)


def _export(places: Places, model: str, run: Path, record: Path) -> Release:
    _run("exporter", str(run), "--out", str(places.bundles))
    version = max((path.parent for path in (places.bundles / model).glob("*/manifest.json")), key=_made).name
    places.records.mkdir(exist_ok=True)
    record.write_text(json.dumps({"run": str(run.relative_to(places.runs)), "version": version}), encoding="utf-8")
    return Release(model, version, run, reused=False)


def _read(record: Path, places: Places, model: str) -> Release | None:
    if not record.exists():
        return None
    document = json.loads(record.read_text(encoding="utf-8"))
    run, version = places.runs / document["run"], str(document["version"])
    if not (run / "metrics.json").exists() or not (places.bundles / model / version / "manifest.json").exists():
        return None
    return Release(model, version, run, reused=True)


def _key(places: Places, recipe: Path) -> str:
    digest = hashlib.sha256(recipe.read_bytes())
    digest.update((places.prepared / "provenance.json").read_bytes())
    for room in _CODE:
        for path in sorted((ROOT / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _runs(places: Places, model: str) -> list[Path]:
    return [path.parent for path in (places.runs / DATASET / model).glob("*/run.json")]


def _made(bundle: Path) -> float:
    return (bundle / "manifest.json").stat().st_mtime


def _run(room: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", room, *arguments], cwd=ROOT, check=True)
