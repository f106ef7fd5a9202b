"""`python -m analysis plan`: users and days for a lift, before an experiment starts."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from contract.command_line import CommandError

if TYPE_CHECKING:
    from analysis.statistics.plan import Design, Need, Spread

_NOTE: Final = """\
CV: standard deviation over mean. rho: correlation with the time before, which CUPED uses. 80% power, 5% two-sided.
"KuaiRand" is measured on KuaiRand-Pure (25,156 users, 7 days before and 7 after). That set is a sample of all plays, so
its rho are floors: with a whole log you need fewer users. "assumed" is not measured. Give your own with --cv and --rho.
Each user is counted once, on the day of entering; the last ones need a whole window more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--metric", default="playtime", help="metric of --lift (default playtime)")
    parser.add_argument("--lift", type=float, help="relative lift to plan for; 0.01 is 1%%")
    parser.add_argument("--cv", type=float, help="its standard deviation over its mean (default: KuaiRand's)")
    parser.add_argument("--rho", type=float, help="its correlation with the time before (default: KuaiRand's)")
    parser.add_argument("--traffic", type=int, default=100_000, help="users who enter per day (default 100,000)")
    parser.add_argument("--arms", type=int, default=2, help="arms of one size, with the control (default 2)")
    parser.add_argument("--looks", type=int, default=1, help="readings; more than one costs users (default 1)")
    parser.add_argument("--window", type=int, default=14, help="days that each user counts for (default 14)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the plan of a lift, or without one the worked example."""
    from analysis.statistics.plan import Design, need, worked_example

    _check(options)
    design = Design(options.arms, options.looks, options.traffic, options.window)
    spread = _spread(options)
    needs = worked_example(design) if options.lift is None else [need(options.metric, options.lift, spread, design)]
    sys.stdout.write(_as_json(needs, design) if options.json else _as_text(needs, design, options.lift is None))
    return 0


def _check(options: argparse.Namespace) -> None:
    from analysis.statistics.plan import SPREADS

    if options.metric not in SPREADS:
        raise CommandError(f"--metric {options.metric}: choose one of {', '.join(SPREADS)}")
    if options.lift is None and (options.cv is not None or options.rho is not None):
        raise CommandError("--cv and --rho belong to --lift")
    limits = {
        "lift": options.lift is None or 0 < abs(options.lift) < 10,
        "cv": options.cv is None or 0 < options.cv < 1e4,
        "rho": options.rho is None or -1 < options.rho < 1,
        "traffic": options.traffic >= 1,
        "arms": 2 <= options.arms <= 8,
        "looks": options.looks >= 1,
        "window": 1 <= options.window <= 90,
    }
    for name, is_good in limits.items():
        if not is_good:
            raise CommandError(f"--{name} {getattr(options, name)}: out of range")


def _spread(options: argparse.Namespace) -> Spread:
    from analysis.statistics.plan import SPREADS, Spread

    known = SPREADS[options.metric]
    if options.cv is None and options.rho is None:
        return known
    cv, rho = (known.cv if options.cv is None else options.cv), (known.rho if options.rho is None else options.rho)
    return Spread(cv, rho, "given")


def _as_json(needs: list[Need], design: Design) -> str:
    from dataclasses import asdict

    from analysis.statistics.plan import TEAMS, team_table

    document = {
        "design": asdict(design),
        "needs": [asdict(one) for one in needs],
        "mde": {"users": list(TEAMS), "metrics": team_table(design)},
    }
    return json.dumps(document, indent=2) + "\n"


def _as_text(needs: list[Need], design: Design, example: bool) -> str:
    from analysis.metrics import BY_NAME
    from analysis.statistics.plan import SPREADS, TEAMS, team_table
    from analysis.text import count, percent, scaled

    rows = [
        [
            one.title, f"{100 * one.lift:+.4g}%", f"{one.cv:g}", f"{one.rho:g}", scaled(one.per_arm_without_history),
            scaled(one.per_arm), scaled(one.users), count(one.days), one.source,
        ]
        for one in needs
    ]  # fmt: skip
    title = "The lifts of Pyramid Mixer's online table" if example else "Your lift"
    reading = "one reading at the end" if design.looks == 1 else f"{design.looks} readings, by the confidence sequence"
    names = ["metric", "lift", "CV", "rho", "per arm, no history", "per arm", "users", "days", "from"]
    teams = [
        [BY_NAME[metric].title, *(percent(one, signed=False) for one in lifts), SPREADS[metric].source]
        for metric, lifts in team_table(design).items()
    ]
    return "\n".join(
        [
            f"{title}: {design.arms} arms, {count(design.traffic)} users enter per day, windows of "
            f"{design.window_days} days, {reading}.",
            "",
            *_table(names, rows),
            "",
            "The smallest lift that users in all arms together find (MDE):",
            "",
            *_table(["metric", *(f"{count(team)} users" for team in TEAMS), "from"], teams),
            "",
            _NOTE,
            "",
        ]
    )


def _table(names: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(line[place]) for line in [names, *rows]) for place in range(len(names))]
    last = len(names) - 1

    def line(cells: list[str]) -> str:
        padded = [
            cell.ljust(width) if place in (0, last) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return [line(names), *(line(row) for row in rows)]
