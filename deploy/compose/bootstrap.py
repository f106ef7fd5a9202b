"""The one-shots of `docker-compose.yml`: bundles before the service starts, behaviours after it is ready.

python -m deploy.compose.bootstrap release      create or find both arms' bundles and the experiment file, then exit
python -m deploy.compose.bootstrap behaviours   load every user's behaviours through the service, then exit
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from contract.command_line import run
from contract.files import read_object, write_json
from deploy.experiments import write_current
from deploy.processes import run_step
from deploy.releases import DATASET, Places, prepare, recipe_of, release

ARMS = ("mgnm", "pyramid_mixer")
DATASETS = Path("/srv/datasets")
WORK = Path("/srv/work")
RELEASES = Path("/srv/releases")


def make_releases(datasets: Path, work: Path, releases: Path, recipes: Path | None = None) -> None:
    """Prepare the data, release both arms and write the experiment file; existing products are reused.

    Args:
        datasets: folder of data sets, empty if there is none.
        work: prepared data, runs and records.
        releases: bundles and the experiment file.
        recipes: folder with a recipe for each arm; None means the short ones.
    """
    places = _prepared(datasets, _places(work, releases / "bundles"))
    work.mkdir(parents=True, exist_ok=True)
    write_json(_which(work), {"dataset": places.dataset})
    chosen = {model: recipes / f"{model}.toml" if recipes else recipe_of(model, short=True) for model in ARMS}
    for made in release(places, chosen, Console(highlight=False)):
        print(f"{made.model}@{made.version}: {'found' if made.reused else 'made'}", flush=True)
    written = write_current(releases / "experiments.yaml", follow=True)
    print(f"experiments.yaml: {'written' if written else 'still running'}", flush=True)


def _places(work: Path, bundles: Path) -> Places:
    return Places(data=work / "data", runs=work / "runs", bundles=bundles, records=work / "records")


def _which(work: Path) -> Path:
    """Return the file with the data set that the first step prepared, for the second step."""
    return work / "dataset.json"


def _prepared(datasets: Path, places: Places) -> Places:
    """Prepare the mounted data set; Docker creates an empty folder if the host has none; then look elsewhere."""
    if (datasets / DATASET).is_dir():
        return prepare(places, ("--data", str(datasets)))
    print(f"no {DATASET} in the mounted folder of data sets (RANKER_DATA on the host): looking elsewhere", flush=True)
    return prepare(places)


def load_behaviours(work: Path, url: str, key_file: Path | None = None) -> None:
    """Load every behaviour of the prepared data through the service's write path."""
    places = replace(_places(work, work), dataset=str(read_object(_which(work))["dataset"]))
    key = ("--key-file", str(key_file)) if key_file else ()
    run_step(("service.seed", str(places.prepared / "behaviours.csv"), "--url", url, *key))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the one-shot that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.compose.bootstrap", description=__doc__)
    parser.add_argument("step", choices=("release", "behaviours"))
    parser.add_argument("--datasets", type=Path, default=DATASETS, help="folder of data sets, empty if there is none")
    parser.add_argument("--work", type=Path, default=WORK, help="prepared data, runs and records")
    parser.add_argument("--releases", type=Path, default=RELEASES, help="bundles and the experiment file")
    parser.add_argument("--recipes", type=Path, help="folder with a recipe for each arm (default: the short ones)")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the service")
    parser.add_argument("--key-file", type=Path, help="file with the API key of a caller with the scope write")
    chosen = parser.parse_args(arguments)
    return run("bootstrap", lambda: _step(chosen))


def _step(chosen: argparse.Namespace) -> int:
    if chosen.step == "release":
        make_releases(chosen.datasets, chosen.work, chosen.releases, chosen.recipes)
    else:
        load_behaviours(chosen.work, chosen.url, chosen.key_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
