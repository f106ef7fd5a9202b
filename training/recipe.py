"""A recipe: the model, its sizes and its training. TOML in, frozen and complete out; an unknown key is an error."""

from __future__ import annotations

import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from contract.behaviours.actions import Action
from contract.bundle.context import MAX_INPUTS, MAX_OFFSET, MIN_OFFSET, OFFSET
from contract.bundle.tensors import POSITIVE_ACTIONS
from contract.command_line import CommandError, explained
from models.lookup import Found, find_model
from training.data.datasets.interactions import NAME_PATTERN
from training.space import SearchRecipe

Protocol = Literal["leave_last_out", "time", "impressions"]
Seen = Literal["keep", "drop"]
NegativesFrom = Literal["row", "shared", "batch", "mixed"]
Tables = Literal["adamw", "sparse_adam", "rowwise_adagrad"]


class RecipeError(CommandError, ValueError):
    """A recipe cannot be used; the message names the file and the key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SplitRecipe(_Section):
    """The split and evaluation of queries: training/rows/split.py, training/judging/evaluate.py.

    Attributes:
        protocol: leave_last_out, time, or impressions.
        held: last interactions of each user for test, and as many before them for validation (leave_last_out).
        ranking: whether seen items are candidates in the ranking that comes first and selects the epoch: all, unseen,
            or auto: unseen, unless at least a tenth of the targets are repeats (training/judging/ranking.py).
        valid_queries: validation queries that select the epoch, a fixed sample; 0 = all (time).
        valid_negatives: stored negatives of each that select the epoch; 0 = the ranking that comes first does (time).
        valid_hours, test_hours: the last hours of the log are test, those before them validation, instead of shares of
            all queries; both or none (time, impressions).
        test_users: users whose test queries are evaluated, a fixed sample; 0 = all.
        ranked_queries: queries that are ranked among all items alive, a fixed sample; 0 = all (time).
        alive_margin_hours: an item is a candidate until this long after its last event (time).
    """

    protocol: Protocol = "leave_last_out"
    held: Annotated[int, Field(ge=1, le=50)] = 1
    ranking: Literal["auto", "all", "unseen"] = "auto"
    valid_queries: Annotated[int, Field(ge=0)] = 0
    valid_negatives: Annotated[int, Field(ge=0)] = 0
    valid_hours: Annotated[float, Field(ge=0, le=87_600, strict=False)] = 0.0
    test_hours: Annotated[float, Field(ge=0, le=87_600, strict=False)] = 0.0
    test_users: Annotated[int, Field(ge=0)] = 0
    ranked_queries: Annotated[int, Field(ge=0)] = 10_000
    alive_margin_hours: Annotated[float, Field(ge=0, le=87_600, strict=False)] = 24.0

    @model_validator(mode="after")
    def _hours_fit(self) -> SplitRecipe:
        if bool(self.valid_hours) != bool(self.test_hours):
            raise ValueError("valid_hours and test_hours: set both or none")
        if self.valid_hours and self.protocol == "leave_last_out":
            raise ValueError("valid_hours and test_hours are of the protocols time and impressions")
        return self

    @property
    def hours(self) -> tuple[float, float] | None:
        """Return the hours of validation and test at the end of the log, if the recipe sets them."""
        return (self.valid_hours, self.test_hours) if self.valid_hours else None


class TrainingRecipe(_Section):
    """The training of the model.

    Attributes:
        epochs: at most; 0 for a model that is not trained.
        rows_per_epoch: rows between two validations; 0 = all rows.
        balanced: rows drawn so that a user with n rows weighs sqrt(n), with replacement.
        batch: rows per step.
        learning_rate: the highest, after the warm-up.
        warm_up: share of all steps over which the learning rate rises from 0.
        schedule: afterwards; linear falls to 0 at the last of `epochs`.
        weight_decay: decoupled (AdamW); sparse tables have none.
        tables: optimiser of embedding tables (training/fitting/optimiser.py): adamw as for all weights, or
            sparse_adam or rowwise_adagrad, which touch only the rows that a batch reads and need a sampled loss.
        tables_rate: learning rate of sparse tables, as a multiple of the others'.
        clip: largest norm of the gradient; 0 = none.
        negatives: drawn uniformly for each row, or for all rows of a batch; 0 if the model's loss needs none.
        negatives_from: where negatives come from: drawn for each row (row), drawn once for all rows of a batch
            (shared), the targets of the batch's other rows (batch), or those and shared ones (mixed).
        calibration: t of the objective `gbce`.
        seen: whether the items of a row's window, other than the target, compete with the target: as entries of the
            softmax over all items, or as negatives. Unset: they do in the softmax, and are never drawn as negatives.
        patience: epochs without a better validation score before it stops; 0 = never.
        precision: of the forward pass in training; bfloat16 pays where the processor has it.
    """

    epochs: Annotated[int, Field(ge=0, le=1000)] = 20
    rows_per_epoch: Annotated[int, Field(ge=0)] = 0
    balanced: bool = False
    batch: Annotated[int, Field(ge=1, le=65_536)] = 256
    learning_rate: Annotated[float, Field(gt=0, le=1, strict=False)] = 1e-3
    warm_up: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    weight_decay: Annotated[float, Field(ge=0, strict=False)] = 0.0
    tables: Tables = "adamw"
    tables_rate: Annotated[float, Field(gt=0, le=1000, strict=False)] = 1.0
    clip: Annotated[float, Field(ge=0, strict=False)] = 5.0
    negatives: Annotated[int, Field(ge=0, le=10_000)] = 0
    negatives_from: NegativesFrom = "row"
    calibration: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.75
    seen: Seen | None = None
    patience: Annotated[int, Field(ge=0)] = 0
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _draws(self) -> Self:
        if self.negatives_from == "batch" and self.negatives:
            raise ValueError('negatives_from "batch" draws none: set negatives = 0, or negatives_from = "mixed"')
        if self.negatives_from in ("shared", "mixed") and not self.negatives:
            raise ValueError(f'negatives_from "{self.negatives_from}" needs negatives')
        return self


class PositiveRecipe(_Section):
    """The interactions that a model learns to predict; the others are only history (training/rows/positives.py).

    Attributes:
        actions: those that count.
        least_play_s: clicks, plays and finishes with a shorter play time do not count.
        least_share: those that played a smaller share of the item's duration do not count.
        duration: the number feature with the duration of an item in seconds, for `least_share`.
        weights: of rows by action in the loss; 1 if not named. Impressions without an action weigh 1.
    """

    actions: Annotated[tuple[Action, ...], Field(min_length=1, strict=False)] = POSITIVE_ACTIONS
    least_play_s: Annotated[float, Field(ge=0, strict=False)] = 0.0
    least_share: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    duration: str | None = None
    weights: dict[Action, Annotated[float, Field(gt=0, le=1_000, strict=False)]] = {}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        unused = sorted(set(self.actions) - set(POSITIVE_ACTIONS))
        if unused:
            raise ValueError(f"{unused[0]} is not a behaviour; there are {', '.join(POSITIVE_ACTIONS)}")
        uncounted = sorted(set(self.weights) - set(self.actions))
        if uncounted:
            raise ValueError(f"weights.{uncounted[0]}: the action is not one of `actions`")
        if bool(self.least_share) != bool(self.duration):
            raise ValueError("least_share and duration: set both or none")
        return self


class ContextRecipe(_Section):
    """The inputs of the context of a request (models/context.py); none by default.

    Attributes:
        hour: hour of the day.
        gap: time since the newest behaviour.
        attributes: attributes that the log has for each event, and requests name.
        offset_minutes: local time minus UTC, for the hour of events and requests without an attribute `tz_offset`.
        hidden: share of the training rows from which each input is hidden, so that "not known" is learnt.
    """

    hour: bool = False
    gap: bool = False
    attributes: Annotated[tuple[str, ...], Field(max_length=MAX_INPUTS, strict=False)] = ()
    offset_minutes: Annotated[int, Field(ge=MIN_OFFSET, le=MAX_OFFSET)] = 0
    hidden: Annotated[float, Field(ge=0, lt=1, strict=False)] = 0.1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError("attributes: each one once")
        if OFFSET in self.attributes:
            raise ValueError(f"attributes: {OFFSET} is not an input; if the log has it, it shifts the hour")
        if self.hour + self.gap + len(self.attributes) > MAX_INPUTS:
            raise ValueError(f"more than {MAX_INPUTS} inputs")
        return self

    @property
    def is_empty(self) -> bool:
        """Return whether there are no inputs."""
        return not (self.hour or self.gap or self.attributes)


class WarmRecipe(_Section):
    """A training that starts from an earlier run (`train --from`): what differs from `training`.

    Attributes:
        epochs: at most.
        learning_rate: the highest; 0 = that of `training`.
        schedule: as in `training`.
        replay: rows that the earlier run has learnt, for each new one.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 2
    learning_rate: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    replay: Annotated[float, Field(ge=0, le=1000, strict=False)] = 0.0

    def applied(self, training: TrainingRecipe) -> TrainingRecipe:
        """Return the recipe of a warm start; every row is learnt in each epoch."""
        return training.model_copy(
            update={
                "epochs": min(self.epochs, training.epochs),
                "learning_rate": self.learning_rate or training.learning_rate,
                "schedule": self.schedule,
                "warm_up": 0.0,
                "rows_per_epoch": 0,
            }
        )


class Recipe(_Section):
    """Everything that determines a run, except the data.

    Attributes:
        dataset: folder of the prepared data.
        model: a name of models.catalog, the path of a class or an entry point (models/lookup.py).
        seed: of all randomness.
        config: the model's config; its keys are the fields of its config class.
        positive: the interactions that count, and their weights.
        search: how to search around the recipe; no run keeps it, and the digest is without it.
        context: what the model reads of a request beside the user's behaviours.
    """

    dataset: Annotated[str, Field(pattern=NAME_PATTERN)]
    model: str
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    config: dict[str, Any] = {}
    split: SplitRecipe = SplitRecipe()
    positive: PositiveRecipe = PositiveRecipe()
    training: TrainingRecipe = TrainingRecipe()
    warm: WarmRecipe = WarmRecipe()
    search: SearchRecipe | None = Field(default=None, exclude=True)
    context: ContextRecipe = ContextRecipe()

    @model_serializer(mode="wrap")
    def _without_empty_context(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a context without inputs: recipes from before there was one keep their digests."""
        document: dict[str, Any] = handler(self)
        if self.context.is_empty:
            document.pop("context", None)
        return document

    def found(self) -> Found:
        """Return the model, by the name of its runs and bundles."""
        return find_model(self.model)

    def digest(self) -> str:
        """Return a digest of everything but the seed: runs that share it differ only by chance."""
        return sha256(self.model_dump_json(exclude={"seed"}).encode()).hexdigest()[:12]


def load_recipe(path: Path, seed: int | None = None, dataset: str | None = None) -> Recipe:
    """Read a recipe; `seed` and `dataset` override those in the file.

    Raises:
        RecipeError: it is missing, malformed, or has an unknown key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except OSError as error:
        raise RecipeError(explained(error)) from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path}: {error}") from None
    replaced = {name: value for name, value in (("seed", seed), ("dataset", dataset)) if value is not None}
    return parse_recipe(document | replaced, str(path))


def parse_recipe(document: dict[str, Any], place: str) -> Recipe:
    """Validate a recipe; `place` names it in errors.

    Raises:
        RecipeError: as `load_recipe`.
    """
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise RecipeError(f"{place}: {key}: {problem}") from None
    try:
        found = find_model(recipe.model)
    except ValueError as error:
        raise RecipeError(f"{place}: model: {error}") from None
    try:
        config = found.entry.configure(recipe.config)
        if getattr(config, "objective", None) == "gbce" and recipe.training.negatives_from in ("batch", "mixed"):
            raise ValueError('objective "gbce" needs uniform negatives: training.negatives_from "row" or "shared"')
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{place}: config: {error}") from None
    return recipe
