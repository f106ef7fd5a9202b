"""A run directory of training, read and checked. The training package is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from contract.bundle import manifest as names
from contract.bundle.manifest import NewItemPrior, digest_of
from contract.bundle.reference import BadReferenceError, parse_reference
from contract.bundle.tensors import SequenceSpec
from contract.bundle.vocabulary import Vocabulary
from contract.files import BadFileError, read_array, read_object
from exporter.errors import ExportError, cause_of
from exporter.run.features import RunFeatures, read_features
from models.base import SequentialRecommender
from models.checkpoint import CONFIG, CheckpointError, load_checkpoint

CHECKPOINT: Final = "checkpoint"
_SPLITS: Final = ("test", "valid")
RUN, RECIPE, METRICS = "run.json", "recipe.json", "metrics.json"

Document = dict[str, Any]  # Any: JSON of another package, checked where it is used


class Judgement(NamedTuple):
    """The rest of metrics.json; a run that an older version evaluated has no baselines.

    Attributes:
        baselines: test metrics by baseline and name.
        first_metric: the metric that decides, such as `unseen.ndcg@10`.
        below: the baselines that the model must reach and does not.
        view_queries: number of test queries by view.
        repeat_share: share of targets that their user has met before.
    """

    baselines: dict[str, dict[str, float]] = {}  # noqa: RUF012 - never changed
    first_metric: str = ""
    below: tuple[str, ...] = ()
    view_queries: dict[str, float] = {}  # noqa: RUF012 - never changed
    repeat_share: float | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training run.

    Attributes:
        directory: where it was read from.
        name: the model's, as in models.catalog.
        model: in evaluation mode.
        sequence: what `encode` reads, with the actions that it was trained with.
        items: vocabulary.
        users: vocabulary, if the model reads the user.
        popularity: float32 (items + 1,), training counts.
        catalogue: the file's bytes, if the data has titles.
        facts: run.json.
        recipe: recipe.json.
        recipe_digest: from run.json, else of the file's bytes.
        metrics: by split and name; empty if the run was never evaluated.
        protocol: the way they were measured, in words.
        queries: number of averaged queries, by split.
        judgement: baselines and verdict on test.
        features: from which the model describes new items; None if it does not.
        prior: how often users click new items; None if it was not measured.
        reference: bytes of the record of scores and inputs on validation; None if the run has none.
    """

    directory: Path
    name: str
    model: SequentialRecommender
    sequence: SequenceSpec
    items: Vocabulary
    users: Vocabulary | None
    popularity: NDArray[np.float32]
    catalogue: bytes | None
    facts: Document
    recipe: Document
    recipe_digest: str
    metrics: dict[str, dict[str, float]]
    protocol: str
    queries: dict[str, float]
    judgement: Judgement
    features: RunFeatures | None = None
    prior: NewItemPrior | None = None
    reference: bytes | None = None

    @property
    def user_count(self) -> int:
        """Return how many users the model knows, 0 if it does not read the user."""
        return len(self.users) if self.users is not None else 0


def read_run(directory: Path) -> Run:
    """Read a run directory.

    Raises:
        ExportError: a file is missing or malformed, or two of them do not match; the message names it.
    """
    if not directory.is_dir():
        raise ExportError(f"{directory}: no such run directory")
    try:
        name, model = load_checkpoint(directory / CHECKPOINT)
    except CheckpointError as error:
        raise ExportError(cause_of(error)) from error
    facts, recipe = _json(directory / RUN), _json(directory / RECIPE)
    measured = _json(directory / METRICS) if (directory / METRICS).is_file() else {}
    run = Run(
        directory=directory,
        name=name,
        model=model.eval(),
        sequence=_sequence(directory, facts, model),
        items=_vocabulary(directory / names.ITEMS),
        users=_vocabulary(directory / names.USERS) if "user" in model.row_inputs else None,
        popularity=_popularity(directory / names.POPULARITY),
        catalogue=_catalogue(directory / names.CATALOGUE),
        facts=facts,
        recipe=recipe,
        recipe_digest=str(facts.get("recipe_digest") or digest_of((directory / RECIPE).read_bytes())),
        metrics={split: _numbers(measured[split]) for split in _SPLITS if split in measured},
        protocol=str(measured.get("protocol", "")),
        queries=_numbers(measured.get("queries")),
        judgement=_judgement(measured, directory / METRICS),
        features=read_features(directory, model),
        prior=_prior(directory, facts),
        reference=_reference(directory / names.REFERENCE),
    )
    _check_sizes(run)
    return run


def span_of(run: Run) -> tuple[str, str]:
    """Return the times of the first and last event of the run's data, in words."""
    span = run.facts.get("data_span_ms")
    if not isinstance(span, list) or len(span) != 2:
        return ("no times", "no times") if "data_span_ms" in run.facts else ("unknown", "unknown")
    first, last = (datetime.fromtimestamp(time / 1000, UTC).isoformat(sep=" ", timespec="seconds") for time in span)
    return first, last


def _judgement(measured: Document, path: Path) -> Judgement:
    if "baselines" not in measured:
        return Judgement()
    try:
        return Judgement(
            {str(name): _numbers(values) for name, values in measured["baselines"].items()},
            str(measured["first_metric"]),
            tuple(str(name) for name in measured["below"]),
            _numbers(measured["view_queries"].get("test")),
            float(measured["repeat_share"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: damaged: {cause_of(error)}; evaluate the run again") from error


def _check_sizes(run: Run) -> None:
    built = _json(run.directory / CHECKPOINT / CONFIG)
    found = [("item_count", names.ITEMS, len(run.items))]
    found += [("user_count", names.USERS, len(run.users))] if run.users is not None else []
    found.append(("item_count", names.POPULARITY, len(run.popularity) - 1))
    for key, file, size in found:
        if built.get(key) != size:
            raise ExportError(f"{run.directory / file}: is of {size}, but the checkpoint's {key} is {built.get(key)}")


def _sequence(directory: Path, facts: Document, model: SequentialRecommender) -> SequenceSpec:
    try:
        spec = SequenceSpec.model_validate(facts.get("sequence"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["sequence", *map(str, first["loc"])])
        raise ExportError(f"{directory / RUN}: {place}: {first['msg']}") from error
    if (spec.length, spec.columns, spec.row_inputs) != (model.length, tuple(model.columns), tuple(model.row_inputs)):
        raise ExportError(f"{directory / RUN}: sequence is not that of the checkpoint's model")
    return spec


def _prior(directory: Path, facts: Document) -> NewItemPrior | None:
    try:
        return None if facts.get("new_item_prior") is None else NewItemPrior.model_validate(facts["new_item_prior"])
    except ValidationError as error:
        raise ExportError(f"{directory / RUN}: new_item_prior: {error.errors()[0]['msg']}") from error


def _reference(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    content = _bytes(path)
    try:
        parse_reference(content)
    except BadReferenceError as error:
        raise ExportError(f"{path.parent}: {error}") from error
    return content


def _vocabulary(path: Path) -> Vocabulary:
    try:
        return Vocabulary.parse(_bytes(path))
    except ValueError as error:
        raise ExportError(f"{path}: {cause_of(error)}") from error


def _popularity(path: Path) -> NDArray[np.float32]:
    try:
        counts = read_array(path)
    except BadFileError as error:
        raise ExportError(str(error)) from error
    if counts.dtype != np.float32 or counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any():
        raise ExportError(f"{path}: expected float32 counts, one per item and one for padding")
    return np.asarray(counts, dtype=np.float32)


def _catalogue(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    items = _json(path).get("items")
    if not isinstance(items, dict) or not all(isinstance(entry, dict) for entry in items.values()):
        raise ExportError(f"{path}: expected {{'items': {{id: {{...}}}}}}")
    return path.read_bytes()


def _numbers(values: object) -> dict[str, float]:
    """Return the numbers of a JSON object by name."""
    found = values if isinstance(values, dict) else {}
    return {str(name): float(value) for name, value in found.items() if isinstance(value, int | float)}


def _json(path: Path) -> Document:
    try:
        return read_object(path)
    except BadFileError as error:
        raise ExportError(str(error)) from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({error.strerror})") from error
