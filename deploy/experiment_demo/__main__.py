"""Simulated users, the real service, and the report of two experiments: `make experiment-demo`.

Starts a real Redis, the service and the sink. Some thousand simulated users come back day after day, get rankings over
HTTP, watch, like, and send events. An A/B experiment compares popularity with Pyramid Mixer; an A/A experiment in
another layer compares nothing. The effect of the A/B is planted: it is computed for every user under both arms, and
compared with what the report finds. A day takes seconds. All numbers are simulated.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from contract.command_line import run
from deploy.experiment_demo.options import Plan, day, number
from deploy.processes import port_number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM ends it as Ctrl-C does
    return run("experiment-demo", lambda: _shown(options))


def _shown(options: argparse.Namespace) -> int:
    from deploy.experiment_demo.play import play  # the libraries take a second, and --help needs none

    plan = Plan(
        options.users, options.weeks, options.day, options.seed, options.port, options.oneshot, options.interleave
    )
    return play(plan)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.experiment_demo", description=__doc__)
    parser.add_argument("--users", type=number(100, 100_000), default=3_000, help="simulated users (default 3000)")
    parser.add_argument("--weeks", type=number(1, 4), default=1, help="length of each user's window (default 1)")
    parser.add_argument("--day", type=day, default=20.0, help="real length of a simulated day (default 20s)")
    parser.add_argument("--seed", type=number(0, 2**31), default=1, help="of everything that is drawn (default 1)")
    parser.add_argument("--port", type=port_number, default=8000, help="port of the service (default 8000)")
    parser.add_argument(
        "--oneshot", action="store_true", help="stop after the report; status 1 if it does not show what was planted"
    )
    parser.add_argument(
        "--interleave", action="store_true", help="interleave for half of the users: how many fewer does it need?"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
