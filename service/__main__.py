"""Run the service: `python -m service`; `--help` names what it can print instead."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from service.api import openapi_json
from service.app import StartError, create_app
from service.log import configure_logging
from service.server import serve
from service.settings import Settings, SettingsError, effective, env_example, load_settings, warnings


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 0 after a graceful end, 1 where the service cannot start, 2 for bad settings."""
    parser = argparse.ArgumentParser(prog="python -m service", description="Serve rankings (docs/operations.md).")
    parser.add_argument(
        "--check-settings", action="store_true", help="print the settings in force, without secrets, and exit"
    )
    parser.add_argument(
        "--openapi", action="store_true", help="print the OpenAPI document (docs/openapi.json) and exit"
    )
    parser.add_argument("--env-example", action="store_true", help="print .env.example and exit")
    options = parser.parse_args(arguments)
    if options.openapi or options.env_example:
        print(openapi_json() if options.openapi else env_example())
        return 0
    try:
        settings = load_settings()
    except SettingsError as error:
        for problem in error.problems:
            print(f"service: {problem}", file=sys.stderr)
        return 2
    if options.check_settings:
        _show(settings)
        return 0
    configure_logging(settings.logging)
    try:
        serve(create_app(settings), settings)
    except StartError as error:
        print(f"service: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        address = f"{settings.http.host}:{settings.http.port}"
        print(f"service: cannot listen on {address} ({error.strerror})", file=sys.stderr)
        return 1
    return 0


def _show(settings: Settings) -> None:
    for name, value in effective(settings).items():
        print(f"{name}={value}")
    for warning in warnings(settings):
        print(f"service: warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
