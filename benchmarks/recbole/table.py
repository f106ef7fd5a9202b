"""One table of both sides: RecBole's results next to our runs of the same recipes.

python -m benchmarks.recbole.table --runs RUNS --results benchmarks/recbole/results

Reads RecBole's lines of results/runs.jsonl and the run directories under RUNS whose recipes are in `recipes/`; copies
our figures into the same file, so that the table can be rebuilt without the runs; writes comparison.json and
comparison.md. Accepted: our mean lies between RecBole's lowest and highest seed, or within 5% of its mean.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.markdown import table as markdown_table
from benchmarks.tables.records import read_lines, write_lines
from contract.command_line import run
from training.recipe import load_recipe
from training.runs import RunDirectory

HERE = Path(__file__).resolve().parent
MODELS: Final = ("gru4rec", "sasrec", "fpmc", "bpr")
METRICS: Final = ("hr@10", "ndcg@10")
CLOSE: Final = 0.05

Documents = list[dict[str, Any]]


def read_runs(results: Path) -> Documents:
    """Return the runs of both sides."""
    path = results / "runs.jsonl"
    return merged(read_lines(path)) if path.exists() else []


def merged(runs: Documents) -> Documents:
    """Return runs by side, model and seed, in this order; the last one of each counts."""
    newest = {(run["side"] != "ours", run["model"], run["seed"]): run for run in runs}
    return [newest[key] for key in sorted(newest)]


def collect(runs: Path, results: Path) -> None:
    """Add one line for each complete run of one of the recipes."""
    found = []
    digests = {load_recipe(HERE / "recipes" / f"{model}.toml").digest(): model for model in MODELS}
    for facts in sorted(runs.glob("*/*/*/run.json")):
        run = RunDirectory(facts.parent)
        recipe = run.recipe()
        if recipe.digest() not in digests:
            continue
        log = read_lines(run.path / "log.jsonl")
        spent = json.loads(facts.read_text(encoding="utf-8"))
        metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
        document = {
            "side": "ours",
            "model": recipe.model,
            "seed": recipe.seed,
            "recipe": json.loads(recipe.model_dump_json()),
            "test": {name: metrics["test"][name] for name in ("hr@10", "ndcg@10", "mrr@20")},
            "valid_ndcg@10": [round(epoch["valid_score"], 6) for epoch in log],
            "best_epoch": spent["best_epoch"],
            "cpu_seconds": spent["cpu_seconds"],
        }
        found.append(document)
    write_lines(results / "runs.jsonl", merged(read_runs(results) + found))


def compared(results: Path) -> list[dict[str, Any]]:
    """Return a row for every model and metric of both sides."""
    found = read_runs(results)
    rows = []
    for model in MODELS:
        sides = {
            side: [one for one in found if one["model"] == model and (one["side"] == "ours") == (side == "ours")]
            for side in ("ours", "recbole")
        }
        if all(sides.values()):
            rows += [_row(model, metric, sides) for metric in METRICS]
    return rows


def _row(model: str, metric: str, sides: dict[str, Documents]) -> dict[str, Any]:
    ours, theirs = ([float(one["test"][metric]) for one in sides[side]] for side in ("ours", "recbole"))
    mean, reference = statistics.fmean(ours), statistics.fmean(theirs)
    inside = min(theirs) <= mean <= max(theirs)
    return {
        "model": model,
        "metric": metric,
        "ours": ours,
        "recbole": theirs,
        "difference": mean / reference - 1,
        "in_spread": inside,
        "accepted": inside or abs(mean / reference - 1) <= CLOSE,
        "curves": {side: [one["valid_ndcg@10"] for one in some] for side, some in sides.items()},
    }


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    columns = ("Model", "Metric", "Ours: mean (seeds)", "RecBole: mean (seeds)", "Difference", "Accepted")
    lines = []
    for row in rows:
        cells = [row["model"], row["metric"].upper()]
        cells += [
            f"{statistics.fmean(row[side]):.4f} ({', '.join(f'{one:.4f}' for one in row[side])})"
            for side in ("ours", "recbole")
        ]
        cells += [f"{row['difference']:+.1%}", "yes" if row["accepted"] else "no"]
        lines.append(cells)
    return "\n".join(markdown_table(columns, lines)) + "\n"


def main() -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of our runs; without it only those that were copied")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    options = parser.parse_args()
    if options.runs:
        collect(options.runs, options.results)
    rows = compared(options.results)
    (options.results / "comparison.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (options.results / "comparison.md").write_text(markdown(rows), encoding="utf-8")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(run("error", main))
