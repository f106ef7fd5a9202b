"""What is kept of a run, small enough to be committed: one JSON of recipe, means, log and origin; per-user means.

| File | Holds |
| --- | --- |
| <system>/<protocol>-<key>-s<seed>.json | recipe, metrics, epochs, run.json |
| <system>/<protocol>-<key>-s<seed>.npz | by metric one value per test user, for paired intervals; none for a trial |
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables.plan import Job
from contract.files import read_arrays, read_object, write_arrays, write_json
from training.compare import per_user_means
from training.metrics import Floats
from training.runs import RunDirectory


@dataclass(frozen=True)
class Record:
    """One complete run.

    Attributes:
        document: recipe, metrics, epochs, run.
        by_user: by metric, one value per user of the test queries; empty for a trial that was not chosen.
    """

    document: dict[str, Any]
    by_user: dict[str, Floats]

    def means(self, part: str) -> dict[str, float]:
        """Return the means of `valid` or `test` by metric."""
        return dict(self.document["metrics"][part])


class Records:
    """The records of one table's runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, job: Job) -> bool:
        """Whether a run is trained, and judged on validation."""
        return self._path(job).exists()

    def judged(self, job: Job) -> bool:
        """Whether a run is trained, and judged on test too."""
        return self._path(job).with_suffix(".npz").exists() and self.has(job)

    def read(self, job: Job) -> Record:
        """Return the record of a complete run."""
        path, by_user = self._path(job), {}
        if self.judged(job):
            arrays = read_arrays(path.with_suffix(".npz"))
            by_user = {name: values.astype(np.float64) for name, values in arrays.items()}
        return Record(read_object(path), by_user)

    def write(self, job: Job, run: RunDirectory) -> None:
        """Keep what is needed of a run; the JSON last, since it says that all is there."""
        path = self._path(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        if "test" in run.metrics():
            values = {name: column.astype(np.float32) for name, column in per_user_means(run.per_query("test")).items()}
            write_arrays(path.with_suffix(".npz"), values)
        epochs = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        document = {
            "system": job.system,
            "protocol": job.protocol,
            "trial": job.trial,
            "recipe": job.recipe.model_dump(mode="json"),
            "metrics": run.metrics(),
            "run": run.facts(),
            "epochs": epochs,
        }
        write_json(path, document, indent=1)

    def _path(self, job: Job) -> Path:
        return self.folder / f"{job.name}.json"
