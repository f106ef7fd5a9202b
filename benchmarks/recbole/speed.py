"""Training speed side by side: rows per second of our models and RecBole's, in turn, on this machine.

python -m benchmarks.recbole.speed ENV/bin/python --atomic ATOMIC --data data --out benchmarks/recbole/results

Each measurement is a fresh process with one thread: five steps that do not count, then `--steps` that do, batches made
by each side's own loader. The sides alternate. Wall clock is the time that a user waits; processor time is less
sensitive to other work on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODELS = ("gru4rec", "sasrec")


class _Clock:
    """Notes the time after every step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def start(self, epochs: int, rows: int, done: int) -> None:
        """See training.fitting.fit.Watcher."""

    def step(self, rows: int, loss: float) -> None:
        """See training.fitting.fit.Watcher."""
        self.seen.append((time.perf_counter(), time.process_time()))

    def epoch(self, epoch: Any, epochs: int) -> None:
        """See training.fitting.fit.Watcher."""

    def rate(self) -> float:
        """See training.fitting.fit.Watcher."""
        return 0.0


def ours(path: Path, data: Path, steps: int, sizes: tuple[int, int]) -> list[float]:
    """Return rows per second of wall clock and of processor time."""
    import torch

    from models.catalog import MODELS as CATALOG
    from training.data.prepare import load_prepared
    from training.fitting.allocator import keep_freed_memory
    from training.fitting.fit import Fit
    from training.recipe import load_recipe
    from training.rows.loader import Loader, dataset_facts, sequence_spec
    from training.rows.split import split

    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    recipe = load_recipe(path)
    length, batch = sizes
    training = recipe.training.model_copy(update={"epochs": 1, "batch": batch, "rows_per_epoch": (steps + 5) * batch})
    prepared = load_prepared(data / recipe.dataset)
    model = CATALOG[recipe.model].build(recipe.config | {"length": length}, dataset_facts(prepared, recipe))
    rows = split(prepared, recipe.split.protocol, recipe.split.held).train
    clock = _Clock()
    fit = Fit(
        model, Loader(prepared, sequence_spec(model), rows), training, 0,
        validate=lambda: 0.0, keep=lambda: None, log=lambda epochs: None, resume=Path(os.devnull + "-none"),
    )  # fmt: skip
    fit._learn(1, clock)
    return [steps * training.batch / (last - first) for first, last in zip(clock.seen[4], clock.seen[-1], strict=True)]


def measured(command: list[str]) -> list[float]:
    """Run one side once; returns both rates."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if found.returncode:
        raise SystemExit(found.stderr[-2000:])
    return [float(rate) for rate in json.loads(found.stdout.strip().splitlines()[-1])]


def main() -> None:
    """Alternate the sides, print and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="?", help="the interpreter of RecBole's environment")
    parser.add_argument("--atomic", type=Path)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--ours", type=Path, metavar="RECIPE", help="measure our side once and print it")
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(ours(options.ours, options.data, options.steps, (options.length, options.batch))))
        return
    asked = f"python -m benchmarks.recbole.speed ENV/bin/python --atomic ATOMIC --steps {options.steps}"
    results: dict[str, Any] = {"command": asked, "times": options.times}
    results |= {"steps": options.steps, "length": options.length, "batch": options.batch, "rows_per_second": {}}
    sizes = ["--length", str(options.length), "--batch", str(options.batch)]
    for model in MODELS:
        recipe, steps = HERE / "recipes" / f"{model}.toml", str(options.steps)
        commands = {
            "ours": [sys.executable, "-m", "benchmarks.recbole.speed", "--ours", str(recipe), "--data",
                     str(options.data), "--steps", steps, *sizes],
            "recbole": [options.python, str(HERE / "run.py"), str(recipe), "--atomic", str(options.atomic), "--speed",
                        steps, *sizes],
        }  # fmt: skip
        rates: dict[str, list[list[float]]] = {side: [] for side in commands}
        for _ in range(options.times):
            for side, command in commands.items():
                rates[side].append(measured(command))
                print(model, side, *(f"{rate:.0f}" for rate in rates[side][-1]), flush=True)
        results["rows_per_second"][model] = {
            side: {"wall": [round(one[0], 1) for one in found], "processor": [round(one[1], 1) for one in found]}
            for side, found in rates.items()
        }
    write(results, options.out)


def write(results: dict[str, Any], out: Path) -> None:
    """Write speed.json and speed.md."""
    lines = [
        "| Model | Clock | Ours, rows/s | RecBole, rows/s | Ratio of medians | Ratios of each pair |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for model, sides in results["rows_per_second"].items():
        for clock in ("wall", "processor"):
            mine, theirs = sides["ours"][clock], sides["recbole"][clock]
            pairs = " ".join(f"{a / b:.2f}" for a, b in zip(mine, theirs, strict=True))
            a, b = statistics.median(mine), statistics.median(theirs)
            lines.append(f"| {model} | {clock} | {a:.0f} | {b:.0f} | {a / b:.2f} | {pairs} |")
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "speed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
