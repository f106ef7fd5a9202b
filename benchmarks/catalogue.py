"""A bundle over a made-up catalogue of any size, with untrained networks, to measure memory, loading and speed.

python -m benchmarks.catalogue --items 1000000 --out bundles     writes bundles/pyramid_mixer/1000000

Item ids are `item-1`, `item-2`, ...; popularity falls as in a real catalogue. The ranking has no meaning.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from contract.bundle import manifest as names
from contract.bundle.tensors import SequenceSpec
from contract.bundle.vocabulary import Vocabulary
from contract.command_line import CommandError, run
from contract.files import write_json
from exporter.export import export_run
from exporter.run.directory import CHECKPOINT, RECIPE, RUN
from models.base import DatasetFacts
from models.catalog import MODELS
from models.checkpoint import save_checkpoint
from training.recipe import Recipe, load_recipe

_RECIPE: Final = Path(__file__).parents[1] / "training/recipes/ml-100k/demo/pyramid_mixer.toml"
_SEED: Final = 20_261
_MOST: Final = 100_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a bundle; return 0, or 1 after printing one line with the reason."""
    options = _parser().parse_args(arguments)
    return run("benchmarks.catalogue", lambda: _write(options))


def write_catalogue(recipe: Recipe, items: int, out: Path, version: str | None = None) -> Path:
    """Write a bundle with the recipe's model and this many items below `out`, and return its directory.

    Raises:
        CommandError: the model needs more than item ids, or the version exists.
    """
    with tempfile.TemporaryDirectory(prefix="catalogue-") as place:
        directory = Path(place) / "made-up"
        try:
            _write_run(directory, recipe, items)
        except ValueError as error:
            raise CommandError(f"{recipe.model}: {error}") from error
        return export_run(directory, out, version or str(items)).bundle


def _write(options: argparse.Namespace) -> int:
    if not 1 <= options.items <= _MOST:
        raise CommandError(f"--items {options.items}: from 1 to {_MOST}")
    bundle = write_catalogue(load_recipe(options.recipe), options.items, options.out, options.version)
    size = sum(file.stat().st_size for file in bundle.iterdir())
    print(f"{bundle}: {options.items:,} items, {size / 2**20:,.0f} MiB")
    return 0


def _write_run(directory: Path, recipe: Recipe, items: int) -> None:
    """Write the files of a training run, without the training."""
    torch.manual_seed(_SEED)
    popularity = np.concatenate([[0.0], 1e6 / np.arange(1, items + 1)]).astype(np.float32).round()
    facts = DatasetFacts(items, 0, popularity)
    model = MODELS[recipe.model].build(recipe.config, facts).eval()
    if "user" in model.row_inputs:
        raise ValueError("needs users, and a made-up catalogue has none")
    directory.mkdir()
    save_checkpoint(directory / CHECKPOINT, recipe.model, recipe.config, facts, model)
    Vocabulary([f"item-{index}" for index in range(1, items + 1)]).write(directory / names.ITEMS)
    np.save(directory / names.POPULARITY, popularity)
    sequence = SequenceSpec(length=model.length, columns=model.columns, row_inputs=model.row_inputs)
    write_json(directory / RECIPE, json.loads(recipe.model_dump_json()))
    write_json(directory / RUN, {"dataset": "made-up", "sequence": sequence.model_dump(mode="json")})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.catalogue", description="Write a bundle over a made-up catalogue."
    )
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the catalogue (default: 1,000,000)")
    parser.add_argument("--recipe", type=Path, default=_RECIPE, help="model and its sizes (default: the demo's)")
    parser.add_argument("--out", type=Path, default=Path("bundles"), help="folder of the bundles (default: bundles)")
    parser.add_argument("--version", help="name of the version (default: the number of items)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
