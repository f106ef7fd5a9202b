"""The command line of `python -m service`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from service.app import create_app
from service.errors import StartError
from service.experiments.check import check_experiments
from service.http.api import openapi_json
from service.log import logging_to
from service.process.server import serve
from service.settings import Settings, SettingsError, effective, env_example, load_settings, passed_sockets, warnings


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 after a graceful end, 1 where the service cannot start, 2 for bad settings."""
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as ended:  # argparse's way to end
        return int(ended.code or 0)
    if options.check_experiments:
        return _check_experiments(options.check_experiments)
    if options.openapi or options.env_example:
        return _print(openapi_json() if options.openapi else env_example())
    try:
        settings = load_settings()
    except SettingsError as error:
        return _complain(2, *error.problems)
    if options.check_settings:
        status = _print("\n".join(f"{name}={value}" for name, value in effective(settings).items()))
        return _complain(status, *[f"warning: {warning}" for warning in warnings(settings)])
    return _serve(settings, replaces=options.replace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description="Serve rankings (docs/operations.md).")
    parser.add_argument(
        "--check-settings", action="store_true", help="print the settings in force, without secrets, and exit"
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
        help="say whether an experiment file may follow another (OLD NEW), or is valid (NEW), and exit",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="take the port over from the process that serves there, which drains when this one is ready",
    )
    return parser


def _check_experiments(files: Sequence[Path]) -> int:
    if len(files) > 2:
        return _complain(2, "--check-experiments takes one file, or an old and a new one")
    report = check_experiments(files)
    return _complain(report.status, *report.lines) if report.status else _print("\n".join(report.lines))


def _serve(settings: Settings, *, replaces: bool) -> int:
    try:
        with logging_to(settings.logging) as log:
            serve(create_app(settings, log), settings, log.close, passed_sockets=passed_sockets(), replaces=replaces)
    except StartError as error:
        return _complain(1, str(error))
    return 0


def _print(text: str) -> int:
    """Print to standard output; a reader that has seen enough (`| head -1`) is no error."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        return 0
    except OSError as error:
        return _complain(1, f"cannot write to standard output ({error.strerror})")
    return 0


def _complain(status: int, *problems: str) -> int:
    """Say something on standard error, unless it cannot be written, and return the status."""
    with suppress(OSError):
        sys.stderr.writelines(f"service: {problem}\n" for problem in problems)
        sys.stderr.flush()
    return status
