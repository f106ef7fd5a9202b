"""The command line of `python -m service`.

The parts of the service are imported by the commands that need them: the supervisor of several workers stays small.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import StartError
from service.log import logging_to
from service.process.inherited import Inherited
from service.settings.environment import SettingsError, load_settings, passed_sockets, with_workers
from service.settings.root import Settings
from service.settings.shown import effective, env_example
from service.settings.unsafe import warnings

if TYPE_CHECKING:
    from service.inference.fork_server import ForkServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 after a graceful end, 1 if the service cannot start, 2 for bad settings."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as ended:  # argparse exits this way
        return int(ended.code or 0)
    if options.check_experiments:
        return _check_experiments(options.check_experiments)
    if options.openapi or options.env_example:
        return _print(_openapi() if options.openapi else env_example())
    try:
        settings = with_workers(load_settings(), options.workers)
    except SettingsError as error:
        return _complain(2, *error.problems)
    if options.check_settings:
        status = _print("\n".join(f"{name}={value}" for name, value in effective(settings).items()))
        return _complain(status, *[f"warning: {warning}" for warning in warnings(settings)])
    return _run(settings, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description="Serve rankings (docs/operations.md).")
    parser.add_argument(
        "--check-settings", action="store_true", help="print the effective settings, without secrets, and exit"
    )
    parser.add_argument(
        "--openapi", action="store_true", help="print the OpenAPI document (docs/openapi.json) and exit"
    )
    parser.add_argument("--env-example", action="store_true", help="print .env.example and exit")
    parser.add_argument(
        "--check-experiments",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="check whether an experiment file may follow another (OLD NEW), or is valid (NEW), and exit",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="take the port over from the running process, which drains when this one is ready",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes behind the port, in place of RANKER_HTTP__WORKERS"
    )
    parser.add_argument("--worker", type=int, nargs=len(Inherited._fields), help=argparse.SUPPRESS)
    return parser


def _openapi() -> str:
    from service.http.api import openapi_json

    return openapi_json()


def _check_experiments(files: Sequence[Path]) -> int:
    from service.experiments.check import check_experiments

    if len(files) > 2:
        return _complain(2, "--check-experiments takes one file, or an old and a new one")
    report = check_experiments(files)
    return _complain(report.status, *report.lines) if report.status else _print("\n".join(report.lines))


def _run(settings: Settings, options: argparse.Namespace) -> int:
    try:
        if options.worker is not None:
            _serve_as_worker(settings, Inherited(*options.worker))
        elif settings.http.workers > 1:
            _supervise(settings, replaces=options.replace)
        else:
            _serve(settings, replaces=options.replace)
    except StartError as error:
        return _complain(1, str(error))
    return 0


def _serve(settings: Settings, *, replaces: bool) -> None:
    with _forks() as forks:
        from service.app.serving import create_app
        from service.process.server import serve

        with logging_to(settings.logging) as log:
            app = create_app(settings, log, forks=forks)
            serve(app, settings, log.close, passed_sockets=passed_sockets(), replaces=replaces)


def _supervise(settings: Settings, *, replaces: bool) -> None:
    from service.process.supervisor import supervise

    gc.enable()  # service/process/early.py
    with logging_to(settings.logging):
        supervise(settings, passed_sockets=passed_sockets(), replaces=replaces)


def _serve_as_worker(settings: Settings, inherited: Inherited) -> None:
    with _forks() as forks:
        from service.app.serving import create_app
        from service.process.worker import serve_as_worker

        with logging_to(settings.logging, worker=inherited.worker) as log:
            app = create_app(settings, log, inherited.worker, forks)
            serve_as_worker(app, settings, log.close, inherited)


def _forks() -> AbstractContextManager[ForkServer | None]:
    """Fork before the other imports, which no proof needs, and before the log has a thread."""
    from service.inference.fork_server import ForkServer

    return ForkServer.begun()


def _print(text: str) -> int:
    """Print to standard output; a reader that stops early (`| head -1`) is not an error."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return 0
    except OSError as error:
        return _complain(1, f"cannot write to standard output ({error.strerror})")
    return 0


def _complain(status: int, *problems: str) -> int:
    """Print to standard error, unless it cannot be written, and return the status."""
    with suppress(OSError):
        sys.stderr.writelines(f"service: {problem}\n" for problem in problems)
        sys.stderr.flush()
    return status
