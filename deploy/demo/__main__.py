"""From a clean clone to a ranked answer: `make demo`.

Prepares MovieLens-100k, trains two models with short recipes, compares them with popularity, exports them, starts a
real Redis and the service, loads every user's behaviours through the service's write path, and ranks for one user.
The service then runs until Ctrl-C, unless --oneshot is given.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console

from contract.command_line import run
from deploy.demo.showcase import Showcase, info, show_metrics, show_ranking
from deploy.experiments import write_current
from deploy.processes import ROOT, free_port, port_number, run_step
from deploy.releases import Places, Release, prepare, recipe_of, release
from deploy.stack import Stack, local_stack

CONTROL, TREATMENT, BASELINE = "mgnm", "pyramid_mixer", "popularity"
console = Console(highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it as Ctrl-C does
    return run("demo", lambda: _shown(options, time.monotonic()))


def _shown(options: argparse.Namespace, started: float) -> int:
    try:
        _run(options, started)
    except KeyboardInterrupt:
        console.print("\nStopped.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--oneshot", action="store_true", help="exit after the ranking is printed")
    parser.add_argument("--model", default=TREATMENT, help=f"the model to compare with {CONTROL} (default {TREATMENT})")
    parser.add_argument("--user", default="42", help="the user to rank for (default 42)")
    parser.add_argument("--port", type=port_number, default=8000, help="port of the service (default 8000)")
    return parser


def _run(arguments: argparse.Namespace, started: float) -> None:
    treatment = TREATMENT if arguments.model == CONTROL else arguments.model
    recipe_of(treatment, short=True)  # a misspelt model fails now and not after a training
    _step("Data")
    places = prepare(Places())
    releases = _releases(places, treatment)
    show_metrics(console, releases)
    versions = {one.model: one.version for one in releases}  # a newer bundle may be of other data
    with _stack(places, treatment, versions, arguments.port) as stack:
        _load_behaviours(places, stack.url)
        show_ranking(console, Showcase(stack.url, places, CONTROL, treatment, stack.secret), arguments.user)
        console.print(f"[dim]From the command to here: {time.monotonic() - started:.0f} s.[/dim]")
        if not arguments.oneshot:
            url = stack.url
            console.print(f"\nThe service is up: [bold]{url}[/bold] (a page to look at), {url}/docs, {url}/metrics")
            console.print("Ctrl-C stops it.")
            threading.Event().wait()


def _releases(places: Places, treatment: str) -> list[Release]:
    """Return popularity and both arms; trains the missing ones."""
    _step("Models")
    recipes = {model: recipe_of(model, short=True) for model in (BASELINE, treatment, CONTROL)}
    releases = release(places, recipes, console)
    for one in releases:
        if one.reused:
            console.print(f"{one.model}: already trained, reused: {one.run.relative_to(ROOT)}")
    return releases


@contextmanager
def _stack(places: Places, treatment: str, versions: dict[str, str], port: int) -> Iterator[Stack]:
    """Run Redis and the service."""
    _step("Service")
    places.records.mkdir(parents=True, exist_ok=True)
    experiments = places.records / "experiments.yaml"
    write_current(experiments, treatment=treatment, versions=versions, header_enabled=True)
    chosen = free_port(port)
    if chosen != port:
        console.print(f"port {port} cannot be used; using {chosen}")
    with local_stack(places, experiments, chosen) as stack:
        console.print(f"ready at {stack.url}; log in {stack.log.relative_to(ROOT)}")
        bundles = info(stack.url)["bundles"]
        console.print("bundles: " + ", ".join(f"{one['name']} on {one['provider']}" for one in bundles))
        yield stack


def _load_behaviours(places: Places, url: str) -> None:
    _step("Behaviours, through POST /behaviours")
    file = places.prepared / "behaviours.csv"
    run_step(("service.seed", str(file), "--url", url))


def _step(title: str) -> None:
    console.rule(f"[bold]{title}", align="left")


if __name__ == "__main__":
    sys.exit(main())
