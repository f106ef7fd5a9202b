"""The alternative that ADR 0232 measured: the state of Adam goes on from yesterday, with zeros for new rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from torch import Tensor

from contract.files import write_json
from models.checkpoint import read_tensors, write_tensors
from training.fitting.fit import Fit
from training.fitting.watchers import ConsoleWatcher
from training.origin import read_origin
from training.rows.loader import Loader
from training.runs import RunDirectory
from training.train import Machine, Setup, Spent, epochs_of, set_up

_STATE: Final = "optimiser.pt"


def learn_with_state(run: RunDirectory, data: Path, machine: Machine, console: Console) -> None:
    """Do what `training.fit_all.fit_all` does; start with the optimiser's state of the run before, and keep it."""
    spent, origin = Spent(), read_origin(run.path)
    setup = set_up(run, run.recipe(), data, machine, console)
    fit = _fit(run, setup)
    adam = fit._optimiser._parts["weights"]  # of all weights: no recipe of the replay has sparse tables
    before = Path(origin.started_from) / _STATE
    if before.exists():  # the base has none
        adam.load_state_dict(_grown(adam, read_tensors(before, setup.device)))
    with ConsoleWatcher(console, "", "") as watcher:
        progress = fit.run(watcher)
    write_tensors(run.path / _STATE, adam.state_dict())
    write_json(run.path / "metrics.json", {})
    facts = {**spent.told(progress), **setup.told(), **epochs_of(progress), "fit": "all"}
    run.finish(setup.recipe, setup.prepared, setup.spec, facts)


def _fit(run: RunDirectory, setup: Setup) -> Fit:
    return Fit(
        setup.model,
        Loader(setup.prepared, setup.spec, setup.start.rows, context=setup.model.context_specs),
        setup.start.training,
        setup.recipe.seed,
        validate=None,
        keep=lambda: run.keep(setup.recipe, setup.facts, setup.model),
        log=run.write_log,
        resume=run.resume,
    )


def _grown(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    moments = {
        place: {name: _rows(value, parameters[place]) for name, value in one.items()}
        for place, one in state["state"].items()
    }
    return {"state": moments, "param_groups": optimiser.state_dict()["param_groups"]}


def _rows(older: Tensor, parameter: Tensor) -> Tensor:
    if not older.dim() or older.shape == parameter.shape:
        return older
    return torch.cat((older, older.new_zeros(len(parameter) - len(older), *older.shape[1:])))
