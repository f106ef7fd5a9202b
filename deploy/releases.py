"""From a data set to released bundles, by the packages' command lines; existing products are reused.

A release is known by a key: the digest of its recipe, its prepared data and the code that made it. Its record is in
`.demo/<model>-<key>.json` next to the checkout's other products and names the run and the bundle.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from contract.command_line import CommandError
from contract.files import BadFileError, read_object, write_json
from deploy.processes import ROOT, StepError, check_ended, run_step
from deploy.trainings import run_side_by_side

DATASET = "ml-100k"
GENERATED = "generated"
"""The data set that `training prepare ml-100k` makes where there is no data and no network."""
_CODE = ("contract", "models", "training", "exporter")


@dataclass(frozen=True)
class Places:
    """The folders of a demo's products, and their data set."""

    dataset: str = DATASET
    data: Path = ROOT / "data"
    runs: Path = ROOT / "runs"
    bundles: Path = ROOT / "bundles"
    records: Path = ROOT / ".demo"

    @property
    def prepared(self) -> Path:
        """The prepared data set."""
        return self.data / self.dataset


@dataclass(frozen=True)
class Release:
    """A trained and exported model."""

    model: str
    version: str
    run: Path
    reused: bool

    def metrics(self) -> dict[str, float]:
        """Return the run's test metrics by name."""
        document = read_object(self.run / "metrics.json")
        return {name: float(value) for name, value in document["test"].items()}


def recipe_of(model: str, *, short: bool) -> Path:
    """Return the recipe of a model: the short one if `short` is set and there is one.

    Raises:
        CommandError: there is no recipe for this model.
    """
    folder = ROOT / "training" / "recipes" / DATASET
    candidates = [folder / "demo" / f"{model}.toml"] if short else []
    for path in [*candidates, folder / f"{model}.toml"]:
        if path.exists():
            return path
    known = sorted(path.stem for path in folder.glob("*.toml"))
    raise CommandError(f"no recipe for model {model!r}; there are: {', '.join(known)}")


def prepare(places: Places, options: Sequence[str] = ()) -> Places:
    """Run `python -m training prepare`; existing prepared data are reused.

    Returns:
        The places of the prepared data; without the data set, those of the generated catalogue under its own name.
    """
    command = ("training", "prepare", DATASET, "--out", str(places.data), "--report", *options)
    with subprocess.Popen([sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        prepared = [name for line in process.stdout if (name := _reported(line))]
    check_ended(command, process.returncode)
    if not prepared:
        raise StepError("python -m training prepare did not print the prepared folder")
    return replace(places, dataset=prepared[-1])


def _reported(line: str) -> str:
    """Return the name in a report's line; show any other line."""
    try:
        return str(json.loads(line)["prepared"])
    except (ValueError, KeyError, TypeError):
        print(line, end="", flush=True)
        return ""


def release(places: Places, recipes: Mapping[str, Path], console: Console) -> list[Release]:
    """Return a released model for each recipe; missing ones are trained concurrently and exported."""
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
    """Train with all recipes at once, one core each: such small models gain little from a second thread."""
    where = ["--dataset", places.dataset, "--data", str(places.data), "--out", str(places.runs)]
    where += ["--threads", "1", "--report"]
    run_side_by_side({model: ("training", "train", str(recipe), *where) for model, recipe in recipes.items()}, console)


def _export(places: Places, model: str, run: Path, record: Path) -> Release:
    # Users of the generated catalogue follow popularity, so a short training may end below it; it shows how parts meet.
    force = ("--force",) if places.dataset == GENERATED else ()
    run_step(("exporter", str(run), "--out", str(places.bundles), *force))
    version = max((path.parent for path in (places.bundles / model).glob("*/manifest.json")), key=_made).name
    places.records.mkdir(exist_ok=True)
    write_json(record, {"run": str(run.relative_to(places.runs)), "version": version})
    return Release(model, version, run, reused=False)


def _read(record: Path, places: Places, model: str) -> Release | None:
    if not record.exists():
        return None
    try:
        document = read_object(record)
        run, version = places.runs / document["run"], str(document["version"])
    except BadFileError:  # a damaged record counts as missing: its products are rebuilt
        return None
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
    return [path.parent for path in (places.runs / places.dataset / model).glob("*/run.json")]


def _made(bundle: Path) -> float:
    return (bundle / "manifest.json").stat().st_mtime
