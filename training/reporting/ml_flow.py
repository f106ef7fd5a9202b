"""MLflow: one MLflow run per run directory, by the client `mlflow-skinny` (extra `mlflow`).

| MLflow has | From |
| --- | --- |
| experiment | the name of the data set |
| run name, tag `folder` | the run directory |
| parameters | the recipe, flat: `training.learning_rate` |
| metrics per epoch | `loss`, `rows_per_second`, `valid/<metric>`; at the end `test/<metric>` |
| artifacts | recipe.json, log.jsonl, metrics.json, run.json, curves.png; an export adds the model card |

`@` in a metric's name is `_at_`, because MLflow refuses it. mlflow.json in the run directory keeps the id of the MLflow
run: a run that was stopped goes on there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from contract.tracking import read_mark, set_habits, write_mark
from training.fitting.fit import Epoch
from training.reporting.curves import PICTURE
from training.reporting.reporter import Ending, Training
from training.reporting.tensor_board import scalars

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STATUS: Final[dict[Ending, str]] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_FILES: Final = ("recipe.json", "log.jsonl", "metrics.json", "run.json", PICTURE)
_AT_ONCE: Final = 100  # parameters in one request, by MLflow's limit
_LONGEST: Final = 6_000  # characters of a parameter, by MLflow's limit
_SQLITE: Final = "sqlite:///"


class MLflow:
    """Tells a tracking server, or a file `sqlite:///...`.

    Args:
        uri: of the tracking server.
    """

    name: ClassVar[str] = "MLflow"
    required: ClassVar[bool] = False

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def begin(self, training: Training) -> None:
        """See `Reporter`."""
        self._client, self._training, self._last = client(self._uri), training, 0
        before = read_mark(training.folder)
        self._resumed = before is not None
        self._run_id = before or self._created()
        self._client.update_run(self._run_id, status="RUNNING")
        write_mark(training.folder, self._run_id)

    def epoch(self, epochs: Sequence[Epoch]) -> None:
        """See `Reporter`."""
        for epoch in epochs[-1:] if self._resumed else epochs[self._last :]:
            for name, value in scalars(epoch, self._training.metric).items():
                self._client.log_metric(self._run_id, allowed(name), value, step=epoch.epoch)
        self._last = len(epochs)

    def end(self, ending: Ending, metrics: Mapping[str, float]) -> None:
        """See `Reporter`."""
        for name, value in metrics.items():
            self._client.log_metric(self._run_id, allowed(f"test/{name}"), value, step=self._last)
        for file in _FILES:
            if (self._training.folder / file).exists():
                self._client.log_artifact(self._run_id, str(self._training.folder / file))
        self._client.set_terminated(self._run_id, _STATUS[ending])

    def _created(self) -> str:
        from mlflow.entities import Param

        recipe = self._training.recipe
        folder = self._training.folder
        tags = {"folder": str(folder), "model": recipe.found().name, "recipe_digest": recipe.digest()}
        run_id = str(self._client.create_run(self._experiment(), run_name=folder.name, tags=tags).info.run_id)
        params = [Param(name, str(value)[:_LONGEST]) for name, value in flat(recipe.model_dump(mode="json"))]
        for start in range(0, len(params), _AT_ONCE):
            self._client.log_batch(run_id, params=params[start : start + _AT_ONCE])
        return run_id

    def _experiment(self) -> str:
        """Return the id of the data set's experiment; the first run of the data set creates it."""
        name = self._training.recipe.dataset
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=artifacts(self._uri)))


def client(uri: str) -> MlflowClient:
    """Return a client of a tracking server."""
    set_habits()
    from mlflow import MlflowClient  # takes seconds, and needs the extra

    return MlflowClient(uri)


def artifacts(uri: str) -> str | None:
    """Return the place of artifacts: beside a local file; a server has its own."""
    if not uri.startswith(_SQLITE):
        return None
    return (Path(uri.removeprefix(_SQLITE)).resolve().parent / "mlartifacts").as_uri()


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:  # Any: JSON
    """Yield the values of a nested document, by dotted names."""
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def allowed(name: str) -> str:
    """Return a metric's name without the character that MLflow refuses."""
    return name.replace("@", "_at_")
