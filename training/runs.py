"""A run directory: the output of one training, for people, the exporter and comparisons.

| File | Contains |
| --- | --- |
| recipe.json | the recipe, resolved: every default written out |
| origin.json | what it began with and may learn (training/origin.py); absent for a plain training |
| checkpoint/ | models/checkpoint.py: the weights that were best on validation |
| items.json, users.json, features.json | vocabularies, and names of the codes of item features |
| popularity.npy, catalogue.json | training counts by item index, titles |
| log.jsonl, curves.png | one line per epoch, and a picture of them |
| tensorboard/, mlflow.json | an events file; the id of the MLflow run (training/reporting/) |
| resume.pt | the state after the last epoch; removed when the run is complete |
| metrics.json, per_query.npz | means, and every query's metrics for paired comparisons |
| reference.json | scores and inputs on validation (contract/bundle/reference.py); trials of a search have none |
| run.json | the code, data and machine; written last, so its presence means that the run is complete |
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from contract.bundle.manifest import REFERENCE
from contract.bundle.reference import Reference, format_reference
from contract.bundle.tensors import SequenceSpec
from contract.command_line import CommandError
from contract.files import (
    BadFileError,
    Fields,
    read_arrays,
    read_object,
    write_array,
    write_arrays,
    write_json,
    write_whole,
)
from models.base import DatasetFacts, SequentialRecommender
from models.checkpoint import save_checkpoint
from training.data.attributes import write_attributes
from training.data.prepare import Prepared
from training.fitting.fit import Epoch
from training.judging.metrics import Floats
from training.judging.views import Views
from training.origin import PLAIN, Origin
from training.recipe import Protocol, Recipe, parse_recipe
from training.rows.split import Part

_PROTOCOLS: Final[dict[Protocol, str]] = {
    "leave_last_out": "leave the last {held} out; full ranking over all items, with and without those of the history",
    "time": "time split 70/10/20 over instances; 1,000 stored uniform negatives each; full ranking over items alive",
    "impressions": "time split 70/10/20 over impressions; the items shown, and their labels",
}

_EVALUATE: Final = "evaluate the run again: python -m training evaluate"


class RunError(CommandError, ValueError):
    """A run directory cannot be used; the message names the reason."""


class RunDirectory:
    """Writes and reads the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / "checkpoint"
        self.resume = path / "resume.pt"

    @classmethod
    def create(cls, root: Path, recipe: Recipe, origin: Origin = PLAIN) -> RunDirectory:
        """Make a new directory, named by time, seed and recipe."""
        parent = root / recipe.dataset / recipe.found().name
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-s{recipe.seed}-{recipe.digest()[:6]}"
        for attempt in range(100):
            path = parent / (f"{name}.{attempt}" if attempt else name)
            try:
                path.mkdir(parents=True)
            except FileExistsError:  # another run of the same second
                continue
            run = cls(path)
            with run.discarded_unless_learnt():
                origin.write(path)
                write_whole(path / "recipe.json", (recipe.model_dump_json(indent=2) + "\n").encode())
            return run
        raise RunError(f"{parent / name}: too many runs of one name")

    @property
    def is_begun(self) -> bool:
        """Whether this is a run: finished, running or stopped."""
        return (self.path / "recipe.json").exists()

    @property
    def is_complete(self) -> bool:
        """Whether the run is finished: run.json is written last."""
        return (self.path / "run.json").exists()

    @contextmanager
    def discarded_unless_learnt(self) -> Iterator[None]:
        """Remove the directory if the block fails before the first epoch ends; otherwise keep it."""
        try:
            yield
        except BaseException:
            if not self.checkpoint.exists() and not self.resume.exists():
                self._discard()
            raise

    def _discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # the folders of the model and of the data set, if no other run is in them
            self.path.parent.rmdir()
            self.path.parent.parent.rmdir()

    def recipe(self) -> Recipe:
        """Return the recipe.

        Raises:
            RunError: the directory is not a run.
        """
        try:
            document = read_object(self.path / "recipe.json")
        except BadFileError as error:
            raise RunError(f"{self.path} is not a run directory: {error}") from None
        return parse_recipe(document, str(self.path / "recipe.json"))

    def keep(self, recipe: Recipe, facts: DatasetFacts, model: SequentialRecommender) -> None:
        """Replace the checkpoint by the model as it is now; an interruption leaves a complete checkpoint."""
        fresh, old = self.path / "checkpoint.new", self.path / "checkpoint.old"
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        save_checkpoint(fresh, recipe.model, recipe.config, facts, model)
        if self.checkpoint.exists():
            self.checkpoint.rename(old)
        fresh.rename(self.checkpoint)
        shutil.rmtree(old, ignore_errors=True)

    def write_data(self, prepared: Prepared, facts: DatasetFacts) -> None:
        """Write the facts about the data that serving needs."""
        prepared.items.write(self.path / "items.json")
        prepared.users.write(self.path / "users.json")
        write_array(self.path / "popularity.npy", facts.item_popularity)
        for name in ("catalogue.json", "features.json"):
            shutil.copyfile(prepared.directory / name, self.path / name)
        write_attributes(self.path, prepared.attributes)

    def keep_log_only(self) -> None:
        """Remove the weights and what serving needs: a trial of a search is compared by its log."""
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        for name in ("resume.pt", "items.json", "users.json", "popularity.npy", "catalogue.json", "features.json"):
            (self.path / name).unlink(missing_ok=True)

    def write_log(self, epochs: list[Epoch]) -> None:
        """Write one line per epoch."""
        lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)
        write_whole(self.path / "log.jsonl", lines.encode())

    def write_metrics(self, recipe: Recipe, parts: Mapping[Part, Views], document: Mapping[str, Any]) -> None:
        """Write the document of `training.judging.document`, and per query the metrics and the user (from 0)."""
        arrays: dict[str, NDArray[Any]] = {}
        for part, views in parts.items():
            for name, view in views.items():
                prefix = f"{part}.{name}." if name else f"{part}."
                arrays[f"{prefix}user"] = view.users
                arrays |= {f"{prefix}{metric}": values for metric, values in view.values.items()}
                arrays |= {f"{prefix}weight.{metric}": values for metric, values in view.weights.items()}
        write_arrays(self.path / "per_query.npz", arrays)
        write_json(self.path / "metrics.json", {**document, "protocol": protocol(recipe)})

    def write_reference(self, reference: Reference) -> None:
        """Write what the model met on validation."""
        write_whole(self.path / REFERENCE, format_reference(reference))

    def finish(self, recipe: Recipe, prepared: Prepared, spec: SequenceSpec, facts: dict[str, Any]) -> None:
        """Write run.json, and remove the files that only a resumed run needs.

        Args:
            recipe: the recipe.
            prepared: the data.
            spec: the model's inputs.
            facts: other facts, such as duration and epochs.
        """
        document = {
            "run_id": self.path.name,
            "model": recipe.found().name,
            "recipe_digest": recipe.digest(),
            "seed": recipe.seed,
            "dataset": prepared.provenance["dataset"],
            "dataset_source": prepared.provenance["source"],
            "dataset_digest": prepared.digest,
            "data_span_ms": _span_ms(prepared),
            "sequence": spec.model_dump(mode="json"),
            "git_revision": git_revision(),
            "torch_version": torch.__version__,
            "environment": environment(),
            **facts,
        }
        write_json(self.path / "run.json", document)
        self.resume.unlink(missing_ok=True)

    def facts(self) -> Fields:
        """Return run.json.

        Raises:
            RunError: the run is not complete.
            BadFileError: the file is damaged.
        """
        if not self.path.is_dir():
            raise RunError(f"{self.path}: no such run directory")
        if not self.is_complete:
            raise RunError(
                f"{self.path} has no run.json: it is not complete; continue with: python -m training train --resume "
                f"{self.path}"
            )
        return read_object(self.path / "run.json")

    def metrics(self) -> Fields:
        """Return metrics.json.

        Raises:
            RunError: there is none, or it is damaged.
        """
        try:
            return read_object(self.path / "metrics.json")
        except BadFileError as error:
            raise RunError(f"{error}; {_EVALUATE} {self.path}") from None

    def per_query(self, part: str) -> dict[str, Floats]:
        """Return the metrics of every query of `valid` or `test`, and `user`.

        Raises:
            RunError: there are none.
        """
        try:
            arrays = read_arrays(self.path / "per_query.npz")
        except BadFileError as error:
            raise RunError(f"{error}; {_EVALUATE} {self.path}") from None
        return {name.removeprefix(f"{part}."): column for name, column in arrays.items() if name.startswith(part)}


def protocol(recipe: Recipe) -> str:
    """Return the evaluation of a run in words: runs that differ in it cannot be compared."""
    words = _PROTOCOLS[recipe.split.protocol].format(held=recipe.split.held)
    if recipe.split.hours is not None:
        ends = "the last {1:g} hours test, {0:g} before them validation,".format(*recipe.split.hours)
        words = words.replace("70/10/20", ends)
    if recipe.split.protocol == "time":
        words += f" within {recipe.split.alive_margin_hours:g} hours, {recipe.split.ranked_queries or 'all'} queries"
    sample = f"; test queries of {recipe.split.test_users:,} users" if recipe.split.test_users else ""
    return f"{words}{sample}; expected metrics under ties"


def _span_ms(prepared: Prepared) -> list[int] | None:
    """Return the times of the first and last interaction; None if the data have no times."""
    times = prepared.columns["times_ms"]
    return [int(times.min()), int(times.max())] if prepared.has_times else None


def environment() -> dict[str, Any]:
    """Return the facts that a result may depend on, other than the code."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
    }


def git_revision(run: Callable[..., Any] = subprocess.run) -> str:
    """Return the revision of the checkout, with `+` if files differ from it; `unknown` outside git."""
    root = Path(__file__).resolve().parent
    try:
        revision = run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{revision}+" if changed.strip() else str(revision)


def _processor() -> str:
    """Return the processor's name, if the system provides it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
