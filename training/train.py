"""One training from recipe to run directory, and the evaluation of an existing run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
import torch.distributed as dist
from rich.console import Console

from contract.bundle.tensors import SequenceSpec
from contract.command_line import CommandError, one_line
from models.base import DatasetFacts, SequentialRecommender
from models.checkpoint import load_checkpoint
from models.parts.new_items import id_part, set_shift
from training.data.cut import prepared_until
from training.data.prepare import Prepared, load_prepared
from training.fitting.allocator import keep_freed_memory
from training.fitting.fit import Fit, Progress
from training.fitting.watchers import ConsoleWatcher, is_shown, watcher_of
from training.fitting.world import ONE_PROCESS, World
from training.judging.document import judged
from training.judging.evaluate import Judge
from training.judging.new_bias import learn_shift
from training.judging.new_items import learn_prior
from training.judging.ranking import selecting_metric
from training.judging.reference import reference_of
from training.judging.scores import ModelScores
from training.judging.shown import shown, validation
from training.judging.views import means
from training.origin import read_origin
from training.recipe import Recipe, RecipeError
from training.reporting.reporter import Reporter, Reporting, Training, telling
from training.rows.loader import Loader, dataset_facts, sequence_spec
from training.rows.outcomes import with_outcomes
from training.rows.positives import aimed
from training.rows.split import Part, Rows, SplitError, every_row, split
from training.runs import RunDirectory, RunError
from training.warm_start import WarmStart, warm_start

JUDGED: Final[tuple[Part, ...]] = ("valid", "test")


class StoppedError(Exception):
    """Training was interrupted; the run can continue."""


class MachineError(CommandError, ValueError):
    """This machine has no such device; the message names it."""


class Machine(NamedTuple):
    """The device of torch and the number of threads (0 = torch chooses)."""

    device: str = "auto"
    threads: int = 0

    def torch_device(self) -> torch.device:
        """Apply the threads and return the device.

        Raises:
            MachineError: the device is unknown to torch or missing here, or the threads are fewer than 0.
        """
        if self.threads < 0:
            raise MachineError(f"threads: {self.threads} is fewer than 0")
        if self.threads:
            torch.set_num_threads(self.threads)
        if self.device == "auto":
            return _own(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            device = _own(torch.device(self.device))
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # errors of torch, by kind of device
            first = (str(error).splitlines() or [""])[0]
            raise MachineError(f"device: no {self.device!r} on this machine: {first}; try cpu or auto") from None
        return device


def _own(device: torch.device) -> torch.device:
    """Return this process's GPU, where torchrun has started several processes on this machine."""
    if str(device) == "cuda" and dist.is_torchelastic_launched():
        return torch.device("cuda", dist.get_node_local_rank())
    return device


def train(
    run: RunDirectory,
    recipe: Recipe,
    data: Path,
    machine: Machine,
    console: Console,
    *,
    reporting: bool = False,
    parts: tuple[Part, ...] = JUDGED,
    world: World = ONE_PROCESS,
    reporters: Sequence[Reporter] = (),
) -> dict[str, float]:
    """Train, keep the best weights, evaluate them; returns the metrics of the last part.

    With several processes, only the first one evaluates and writes; the others return no metrics.

    Args:
        run: a fresh directory, or that of a run that was stopped.
        recipe: its recipe.
        data: the folder of prepared data sets.
        machine: device and threads.
        console: the output.
        reporting: whether progress is JSON lines for a program.
        parts: the parts to evaluate at the end; a trial among several must not use test.
        world: the processes that train together.
        reporters: are told about the training, beside the run's log.

    Raises:
        DataError: the data are not prepared.
        RecipeError: the model cannot be built for these data.
        MachineError: there is no such device.
        SplitError: the data have too few interactions for the recipe's split.
        TrainingFailedError: the loss became NaN or infinite.
        WarmStartError: the run that it goes on from does not fit.
        StoppedError: Ctrl-C; the best weights so far are in the checkpoint.
        WorldError: another process has failed.
    """
    spent = Spent()
    setup = set_up(run, recipe, data, machine, console, world)
    quiet = reporting or not is_shown(console)
    metric, validate = validating(setup, parts, quiet=quiet) if world.is_first else ("", lambda: 0.0)
    with telling(Training(run.path, recipe, metric), reporters, console) as report:
        watcher = watcher_of(console, recipe.found().name, metric, reporting=reporting)
        progress = learn(run, setup, watcher, report, validate, world=world)
        spent.gather(world)
        metrics = _finish(run, setup, progress, spent, parts, quiet=quiet) if world.is_first else {}
        report.finished(metrics)
    return metrics


def _finish(
    run: RunDirectory, setup: Setup, progress: Progress, spent: Spent, parts: tuple[Part, ...], *, quiet: bool
) -> dict[str, float]:
    """Evaluate the best weights and complete the run; returns the metrics of the last part."""
    recipe, prepared, facts = setup.recipe, setup.prepared, setup.facts
    shift = _shift(run, setup)
    metrics = evaluate(run, recipe, prepared, facts, setup.device, parts, quiet=quiet)
    if "test" in parts:  # else it is a trial, which is compared by its log
        write_reference(run, recipe, prepared, facts, setup.device)
    prior = _prior(run, recipe, prepared, facts, setup.device)
    told = {**spent.told(progress), **setup.told(), **epochs_of(progress), "fit": "validated", **shift, **prior}
    run.finish(recipe, prepared, setup.spec, told)
    return metrics


def validating(setup: Setup, parts: tuple[Part, ...], *, quiet: bool) -> tuple[str, Callable[[], float]]:
    """Return the metric that selects the epoch, and its value now; refuse parts that cannot be evaluated."""
    prepared, split, spec, popularity = setup.prepared, setup.recipe.split, setup.spec, setup.facts.item_popularity
    judge = Judge(prepared, spec, split, "valid", popularity, choosing=True)
    metric = selecting_metric(split, judge.first)
    for part in parts:
        Judge(prepared, spec, split, part, popularity, choosing=_sampled(setup.recipe) and part == "valid")
    return metric, validation(judge, setup.model, metric, quiet=quiet)


class Spent:
    """Time since it was made, of all processes."""

    def __init__(self) -> None:
        self._started, self._cpu = time.monotonic(), time.process_time()
        self._processes, self._others_cpu = 1, 0.0

    def gather(self, world: World) -> None:
        """Add the processor time that the other processes have spent."""
        own = time.process_time() - self._cpu
        self._processes, self._others_cpu = world.size, world.total(own) - own

    def told(self, progress: Progress) -> dict[str, float]:
        """Return the facts for run.json; of a run that was stopped, processor time is that of all its starts."""
        own = time.process_time() - self._cpu
        return {
            "duration_seconds": round(time.monotonic() - self._started, 2),
            "cpu_seconds": round(progress.earlier_cpu_seconds + own + self._others_cpu, 2),
            "processes": self._processes,
        }


@dataclass(frozen=True)
class Setup:
    """A model that is about to learn, and its rows.

    Attributes:
        recipe: the run's.
        start: the rows, and how to learn them.
    """

    recipe: Recipe
    prepared: Prepared
    facts: DatasetFacts
    model: SequentialRecommender
    device: torch.device
    start: WarmStart

    @property
    def spec(self) -> SequenceSpec:
        """The model's inputs."""
        return sequence_spec(self.model)

    def told(self) -> dict[str, Any]:
        """Return the facts for run.json."""
        rows = self.start.rows
        newest = int(rows.times_ms.max()) if self.prepared.has_times else None
        return {"rows": len(rows.items), "learnt_until_ms": newest, **self.start.facts}


def set_up(
    run: RunDirectory, recipe: Recipe, data: Path, machine: Machine, console: Console, world: World = ONE_PROCESS
) -> Setup:
    """Load the data, and build the model that the run's origin and recipe name; see `train` for the errors."""
    origin = read_origin(run.path)
    prepared = prepared_until(load_prepared(data / recipe.dataset), origin.until_ms)
    prepared = with_outcomes(aimed(prepared, recipe.positive), recipe)
    _say_what_is_read(prepared, console)
    device, everything = machine.torch_device(), origin.fit == "all"
    facts = dataset_facts(prepared, recipe, everything=everything)
    torch.manual_seed(recipe.seed)
    model = build(recipe, facts)
    rows = every_row(prepared, recipe.split.protocol) if everything else _training_rows(prepared, recipe)
    start = WarmStart(rows, recipe.training, {})
    if origin.started_from:
        start = warm_start(Path(origin.started_from), model, recipe, prepared, rows)
    if device.type == "cpu":
        keep_freed_memory()
    if world.is_first:
        run.write_data(prepared, facts)
    return Setup(recipe, prepared, facts, model.to(device), device, start)


def _training_rows(prepared: Prepared, recipe: Recipe) -> Rows:
    return split(prepared, recipe.split.protocol, recipe.split.held, recipe.split.hours).train


def learn(
    run: RunDirectory,
    setup: Setup,
    watcher: ConsoleWatcher,
    report: Reporting,
    validate: Callable[[], float] | None,
    *,
    last: int | None = None,
    world: World = ONE_PROCESS,
) -> Progress:
    """Train until the last epoch or the end of patience; the run keeps the best weights.

    Args:
        run: fresh or stopped.
        setup: the model and its rows.
        watcher: shows the training.
        report: is told of each epoch.
        validate: see `Fit`.
        last: see `Fit`.
        world: the processes that train together.

    Raises:
        TrainingFailedError: the loss became NaN or infinite.
        StoppedError: Ctrl-C; the best weights so far are in the checkpoint.
    """
    fit = Fit(
        setup.model,
        Loader(setup.prepared, setup.spec, setup.start.rows, setup.model.targets, setup.model.context_specs),
        setup.start.training,
        setup.recipe.seed,
        validate=validate,
        keep=lambda: run.keep(setup.recipe, setup.facts, setup.model),
        log=report.epoch,
        resume=run.resume,
        data=setup.prepared.digest,
        last=last,
        world=world,
    )
    try:
        with watcher:
            return fit.run(watcher)
    except KeyboardInterrupt:
        report.stopped()
        if world.is_first and not run.checkpoint.exists():
            run.keep(setup.recipe, setup.facts, setup.model)
        raise StoppedError from None


def epochs_of(progress: Progress) -> dict[str, int]:
    """Return the facts for run.json."""
    return {"epochs": len(progress.epochs), "best_epoch": progress.best_epoch}


def build(recipe: Recipe, facts: DatasetFacts) -> SequentialRecommender:
    """Return a fresh model of a recipe for a data set.

    Raises:
        RecipeError: its config names a feature that the data lack, or sizes that do not fit together or in memory.
    """
    try:
        return recipe.found().entry.build(recipe.config, facts)
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        raise RecipeError(f"{recipe.model}: config: the model does not fit in memory; make it smaller") from None
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{recipe.model}: config: {one_line(str(error))[:300]}") from error


def evaluate_run(run: RunDirectory, data: Path, machine: Machine) -> dict[str, float]:
    """Evaluate a run's checkpoint again and write its metrics; returns test metrics.

    Raises:
        RunError: it is not a run, or was trained on other data.
        DataError: the data are not prepared.
    """
    recipe, origin = run.recipe(), read_origin(run.path)
    if origin.fit == "all":
        raise RunError(
            f"{run.path} has learnt every row, so none can judge it; its figures are of {origin.validated_by}"
        )
    prepared = prepared_until(load_prepared(data / recipe.dataset), origin.until_ms)
    prepared = with_outcomes(aimed(prepared, recipe.positive), recipe)
    if run.facts()["dataset_digest"] != prepared.digest:
        raise RunError(f"{run.path} was trained on other data than {prepared.directory} has now")
    facts, device = dataset_facts(prepared, recipe), machine.torch_device()
    write_reference(run, recipe, prepared, facts, device)
    return evaluate(run, recipe, prepared, facts, device)


def evaluate(
    run: RunDirectory,
    recipe: Recipe,
    prepared: Prepared,
    facts: DatasetFacts,
    device: torch.device,
    parts: tuple[Part, ...] = JUDGED,
    *,
    quiet: bool = False,
) -> dict[str, float]:
    """Evaluate the checkpoint on disk, with the time left where it takes long; returns the metrics of the last part."""
    _, model = load_checkpoint(run.checkpoint)
    model, spec = model.to(device), sequence_spec(model)
    judges = {
        part: Judge(
            prepared, spec, recipe.split, part, facts.item_popularity, choosing=_sampled(recipe) and part == "valid"
        )
        for part in parts
    }
    scorers = {part: 1 + judge.baseline_count * (part == "test") for part, judge in judges.items()}
    with shown("evaluation", [(judge, scorers[part]) for part, judge in judges.items()], quiet=quiet):
        views = {part: judge(model) for part, judge in judges.items()}
        run.write_metrics(recipe, views, judged(recipe.split, judges, views))
    return means(views[parts[-1]])


def write_reference(
    run: RunDirectory, recipe: Recipe, prepared: Prepared, facts: DatasetFacts, device: torch.device
) -> None:
    """Write what the checkpoint's model meets on validation; `facts` are those of the training part.

    A fit of all rows may have fewer than the run that it repeats (`--until`), and none for validation: then no record.
    """
    try:
        rows = _validation_rows(prepared, recipe)
    except SplitError:
        return
    _, model = load_checkpoint(run.checkpoint)
    scorer = ModelScores(model.to(device).eval(), prepared, sequence_spec(model))
    run.write_reference(reference_of(scorer, prepared, recipe.split, rows, facts.item_popularity, model.length))


def _prior(
    run: RunDirectory, recipe: Recipe, prepared: Prepared, facts: DatasetFacts, device: torch.device
) -> dict[str, Any]:
    """Return the prior of new items for run.json; none for protocols that do not split next items by time."""
    if recipe.split.protocol != "time":
        return {}
    _, model = load_checkpoint(run.checkpoint)
    scorer = ModelScores(model.to(device), prepared, sequence_spec(model))
    rows = _validation_rows(prepared, recipe)
    return {"new_item_prior": learn_prior(scorer, prepared, recipe.split, rows, facts.item_popularity)._asdict()}


def _shift(run: RunDirectory, setup: Setup) -> dict[str, Any]:
    """Shift the bias of new items in the checkpoint, and return the facts for run.json; none for other protocols."""
    recipe, prepared = setup.recipe, setup.prepared
    if recipe.split.protocol != "time" or id_part(setup.model) is None:
        return {}
    _, model = load_checkpoint(run.checkpoint)
    set_shift(model.to(setup.device), 0.0)  # or a run that was stopped here would learn what is left to shift
    scorer, rows = ModelScores(model, prepared, setup.spec), _validation_rows(prepared, recipe)
    shift = learn_shift(scorer, prepared, recipe.split, rows, setup.facts.item_popularity)
    set_shift(model, shift.added)
    run.keep(recipe, setup.facts, model)
    return {"new_item_shift": shift._asdict()}


def _validation_rows(prepared: Prepared, recipe: Recipe) -> Rows:
    return split(prepared, recipe.split.protocol, recipe.split.held, recipe.split.hours).valid


def _sampled(recipe: Recipe) -> bool:
    """Whether validation uses only the sample that selects the epoch."""
    return bool(recipe.split.valid_queries)


def _say_what_is_read(prepared: Prepared, console: Console) -> None:
    counts = prepared.provenance["counts"]
    console.print(
        f"{prepared.provenance['dataset']}: {counts['users']:,} users, {counts['items']:,} items, "
        f"{counts['interactions']:,} interactions"
    )
