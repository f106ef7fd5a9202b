"""The one training loop, for every model: Adam, a schedule, validation after each epoch, the best weights kept.

The same recipe, data and seed give the same weights on one machine. All randomness of an epoch depends on the seed and
the epoch's number, so a run that was stopped and resumed gives the same result as an uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from contract.command_line import CommandError
from models.base import SequentialRecommender, TrainingBatch
from models.checkpoint import CheckpointError, read_tensors, write_tensors
from training.fitting.optimiser import Optimiser
from training.fitting.world import ONE_PROCESS, World
from training.recipe import TrainingRecipe
from training.rows.loader import Loader, Portion


class TrainingFailedError(CommandError, ValueError):
    """The loss is not finite any more; the message suggests a change."""


@dataclass
class Epoch:
    """The result of one epoch; one line of log.jsonl."""

    epoch: int
    loss: float
    valid_score: float | None  # None where nothing is validated
    best: bool
    rows_per_second: float


@dataclass
class Progress:
    """The progress of a fit; a resumed fit needs it, the weights and the optimiser.

    Attributes:
        cpu_seconds: of all processes and of all starts of the run, until its last epoch.
        earlier_cpu_seconds: those of the starts before this one.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -1.0
    cpu_seconds: float = 0.0
    earlier_cpu_seconds: float = 0.0


class Watcher(Protocol):
    """Shows the progress of training to people."""

    def start(self, epochs: int, rows: int, done: int) -> None:
        """Training begins: `epochs` of `rows` each, `done` of them already run."""

    def step(self, rows: int, loss: float) -> None:
        """A batch was trained on."""

    def epoch(self, epoch: Epoch, epochs: int) -> None:
        """An epoch was validated."""

    def rate(self) -> float:
        """Return rows per second of the current epoch."""


class Fit:
    """Trains one model.

    Args:
        model: fresh, on its device.
        loader: of training rows.
        recipe: the training recipe.
        seed: of all randomness.
        validate: returns the metric that selects the model, on validation; called in evaluation mode. None where all
            rows are learnt: the newest weights count as the best.
        keep: called when the model is the best so far.
        log: called with all epochs after each epoch.
        resume: file with the state after the last epoch; read if it exists.
        data: digest of the prepared data; a run that started with other data is not resumed.
        last: the epoch to stop after, on the schedule of all of the recipe's epochs; None = the recipe's last.
        world: the processes that train together. The first one validates, keeps, logs and writes; the others need
            readable weights and the same `resume`.
    """

    def __init__(
        self,
        model: SequentialRecommender,
        loader: Loader,
        recipe: TrainingRecipe,
        seed: int,
        *,
        validate: Callable[[], float] | None,
        keep: Callable[[], None],
        log: Callable[[list[Epoch]], None],
        resume: Path,
        data: str = "",
        last: int | None = None,
        world: World = ONE_PROCESS,
    ) -> None:
        self._world = world
        self._model, self._loader, self._recipe, self._seed = model, loader, recipe, seed
        self._validate, self._keep, self._log, self._resume, self._data = validate, keep, log, resume, data
        self._epochs = recipe.epochs if last is None else min(last, recipe.epochs)
        self._device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        self._rows = recipe.rows_per_epoch or len(loader)
        self._steps_per_epoch = max(1, -(-self._rows // recipe.batch))
        self._optimiser = Optimiser(model, recipe, world)
        self.progress = Progress()
        self._cpu = time.process_time()

    def run(self, watcher: Watcher) -> Progress:
        """Train until the epochs or the patience end; returns the result of each epoch.

        Raises:
            TrainingFailedError: the loss became NaN or infinite.
            CheckpointError: the file of a stopped run is damaged, or from other data.
            WorldError: the processes differ, or one of them has failed.
        """
        if self._resume.exists():
            self._load()
        begun = {"data": self._data, "seed": self._seed, "epochs done": len(self.progress.epochs)}
        self._world.begin(self._model, {**begun, "training rows": len(self._loader), "recipe": self._recipe})
        epochs = self._epochs if self._optimiser.has_weights else 0
        watcher.start(epochs, self._rows, len(self.progress.epochs))
        if not epochs:
            self._judge(Epoch(0, 0.0, self._score(), best=True, rows_per_second=0.0), watcher, epochs)
        while len(self.progress.epochs) < epochs and not self._is_over():
            number = len(self.progress.epochs) + 1
            loss = self._learn(number, watcher)
            score = self._score()
            better = score is None or score > self.progress.best_score
            self._judge(Epoch(number, loss, score, better, watcher.rate()), watcher, epochs)
        return self.progress

    def _is_over(self) -> bool:
        waited = len(self.progress.epochs) - self.progress.best_epoch
        return bool(self._recipe.patience) and waited >= self._recipe.patience

    def _score(self) -> float | None:
        self._model.eval()
        validates = self._validate is not None and self._world.is_first
        return self._world.from_first(self._validate() if validates and self._validate is not None else None)

    def _judge(self, epoch: Epoch, watcher: Watcher, epochs: int) -> None:
        self.progress.epochs.append(epoch)
        own = time.process_time() - self._cpu
        self.progress.cpu_seconds = self.progress.earlier_cpu_seconds + self._world.total(own)
        if epoch.best:
            self.progress.best_epoch = epoch.epoch
            self.progress.best_score = -1.0 if epoch.valid_score is None else epoch.valid_score
            if self._world.is_first:
                self._keep()
        if self._world.is_first:
            self._log(self.progress.epochs)
            self._save()
        watcher.epoch(epoch, epochs)

    def _learn(self, number: int, watcher: Watcher) -> float:
        """Run one epoch; returns its mean loss."""
        rng = np.random.default_rng((self._seed, number))
        torch.manual_seed(int(rng.integers(2**31)) + self._world.share.rank)  # every process drops out other values
        order = self._loader.order(rng, self._rows, self._recipe.balanced)
        self._model.train()
        self._model.begin_epoch()
        total, first = 0.0, (number - 1) * self._steps_per_epoch
        portions = self._loader.portions(rng, order, self._recipe, self._world.share)
        for step, portion in enumerate(portions, start=first):
            loss = self._step(portion, step)
            total += loss * portion.rows
            watcher.step(portion.rows, loss)
        return total / max(len(order), 1)

    def _step(self, portion: Portion, step: int) -> float:
        value = self._optimiser.backward(self._loss(portion))
        if not np.isfinite(value):
            raise TrainingFailedError(f"step {step + 1}: the loss is {value}; try a smaller training.learning_rate")
        self._optimiser.move(self.learning_rate(step))
        return value

    def _loss(self, portion: Portion) -> Tensor | None:
        """Return this process's part of the whole batch's mean loss."""
        if portion.batch is None:
            return None
        half = self._recipe.precision == "bfloat16"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half):
            loss = self._model.loss(on_device(portion.batch, self._device))
        return loss if self._world.size == 1 else loss * portion.weight

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0 over all epochs."""
        steps = self._recipe.epochs * self._steps_per_epoch
        warm = int(self._recipe.warm_up * steps)
        if step < warm:
            return self._recipe.learning_rate * (step + 1) / warm
        left = (steps - step) / max(steps - warm, 1) if self._recipe.schedule == "linear" else 1.0
        return self._recipe.learning_rate * left

    def _save(self) -> None:
        state = {"model": self._model.state_dict(), "optimiser": self._optimiser.state_dict()}
        write_tensors(self._resume, state | {"progress": asdict(self.progress), "data": self._data})

    def _load(self) -> None:
        begin_again = "remove the file, and the run starts again"
        try:
            state = read_tensors(self._resume, self._device)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; {begin_again}") from None
        if state.get("data", self._data) != self._data:
            raise CheckpointError(
                f"{self._resume}: the run started with other data than are prepared now; {begin_again}"
            )
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{self._resume}: not of this run: {error}; {begin_again}") from None

    def _restore(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        progress = state["progress"]
        epochs, spent = [Epoch(**epoch) for epoch in progress["epochs"]], progress.get("cpu_seconds", 0.0)
        self.progress = Progress(epochs, progress["best_epoch"], progress["best_score"], spent, spent)


def on_device(batch: TrainingBatch, device: torch.device) -> TrainingBatch:
    """Return the batch on a device; the batch itself if it is already there."""

    def moved(one: Tensor | None) -> Tensor | None:
        return None if one is None else one.to(device)

    return batch._replace(
        inputs={name: tensor.to(device) for name, tensor in batch.inputs.items()},
        targets=batch.targets.to(device),
        negatives=moved(batch.negatives),
        labels=moved(batch.labels),
        seen=moved(batch.seen),
        weights=moved(batch.weights),
        log_counts=moved(batch.log_counts),
    )
