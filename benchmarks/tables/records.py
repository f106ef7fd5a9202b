"""The runs of a table, small enough to be committed: two files for all of them.

| File | Contents |
| --- | --- |
| runs.jsonl | one line per run, sorted by name: name, by_user, system, protocol, trial, recipe, metrics, run, epochs |
| by_user.npz | `<name>/<metric>` for each metric in the line's `by_user`: one float32 per test user; a trial has none |

One process writes them: the one that runs the command.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables.plan import Job
from contract.files import BadFileError, read_arrays, write_arrays, write_whole
from training.judging.intervals import per_user_means
from training.judging.metrics import Floats
from training.runs import RunDirectory

LINES: Final = "runs.jsonl"
ARRAYS: Final = "by_user.npz"

_FORMERLY: Final = {"leave_last_out": "ndcg@10", "time": "ndcg@5", "impressions": "auc"}
"""The metric that selected the epoch of runs whose metrics.json does not name it."""

Document = dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Record:
    """One complete run.

    Attributes:
        document: recipe, metrics, epochs, run.
        by_user: by metric, one value per user of the test queries; empty for a trial that was not selected.
    """

    document: Document
    by_user: dict[str, Floats]

    def means(self, part: str) -> dict[str, float]:
        """Return the means of `valid` or `test` by metric."""
        return dict(self.document["metrics"][part])

    def selected(self) -> float:
        """Return the validation metric that selected the epoch."""
        metric = self.document["metrics"].get("selects", _FORMERLY[self.document["recipe"]["split"]["protocol"]])
        return self.means("valid")[metric]


class Records:
    """The records of one table's runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, job: Job) -> bool:
        """Whether a run is trained and evaluated on validation."""
        return job.name in self._documents

    def judged(self, job: Job) -> bool:
        """Whether a run is trained and also evaluated on test."""
        return self.has(job) and bool(self._documents[job.name]["by_user"])

    def read(self, job: Job) -> Record:
        """Return the record of a complete run."""
        document = self._documents[job.name]
        by_user = {metric: self._arrays[f"{job.name}/{metric}"] for metric in document["by_user"]}
        return Record(document, {metric: values.astype(np.float64) for metric, values in by_user.items()})

    def write(self, job: Job, run: RunDirectory) -> None:
        """Keep the needed parts of a run."""
        document = {
            "name": job.name,
            "by_user": [],
            "system": job.system,
            "protocol": job.protocol,
            "trial": job.trial,
            "recipe": job.recipe.model_dump(mode="json"),
            "metrics": run.metrics(),
            "run": run.facts(),
            "epochs": read_lines(run.path / "log.jsonl"),
        }
        by_user = per_user_means(run.per_query("test")) if "test" in run.metrics() else {}
        self.add([(document, by_user)])

    def add(self, records: list[tuple[Document, dict[str, Floats]]]) -> None:
        """Add runs, or replace those of the same name.

        The lines are written last: a run with a line has its arrays.
        """
        for document, by_user in records:
            name = document["name"]
            self._documents[name] = {**document, "by_user": list(by_user)}
            self._arrays.update({f"{name}/{metric}": values.astype(np.float32) for metric, values in by_user.items()})
        self.folder.mkdir(parents=True, exist_ok=True)
        write_arrays(self.folder / ARRAYS, {name: self._arrays[name] for name in sorted(self._arrays)})
        write_lines(self.folder / LINES, [self._documents[name] for name in sorted(self._documents)])

    @cached_property
    def _documents(self) -> dict[str, Document]:
        path = self.folder / LINES
        return {document["name"]: document for document in read_lines(path)} if path.exists() else {}

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        path = self.folder / ARRAYS
        return read_arrays(path) if path.exists() else {}


def read_lines(path: Path) -> list[Document]:
    """Return the objects of a JSON Lines file.

    Raises:
        BadFileError: a line is not JSON; the message names the file and the line.
    """
    documents = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            documents.append(json.loads(line))
        except ValueError as error:
            raise BadFileError(f"{path}:{number}: damaged: {error}") from None
    return documents


def write_lines(path: Path, documents: list[Document]) -> None:
    """Write a JSON Lines file atomically."""
    text = "".join(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
    write_whole(path, text.encode())
