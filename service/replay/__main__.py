"""Runs slow rankings again with the bundles that served them, and prints stage times beside the captured ones.

    curl -s localhost:8001/debug/slow > slow.json
    python -m service.replay slow.json --bundles bundles

The items are others than those of the captured ranking, because nothing captured tells which they were; lengths,
repeats, actions and the order of times are the same. docs/slow-rankings.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.command_line import run
from service.access.keys import read_key
from service.replay.captured import Captured, read
from service.replay.runs import Replayed, Replayer
from service.settings.environment import signers_of_environment

_MAX_RUNS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status: 1 if a ranking could not be run again."""
    options = _parser().parse_args(arguments)
    return run("service.replay", lambda: _replay(options))


def _replay(options: argparse.Namespace) -> int:
    replayer = Replayer(options.bundles, min(max(1, options.runs), _MAX_RUNS), options.signers)
    failed = 0
    for one in read(options.source, read_key(options.key_file)):
        replayed = replayer.replay(one)
        failed += bool(replayed.problem)
        sys.stdout.write("\n".join([_title(one), *_lines(one, replayed), ""]) + "\n")
    return 1 if failed else 0


def _title(one: Captured) -> str:
    batches = " and ".join(str(rows) for rows in one.batch_rows) or "none"
    return (
        f"{one.request_id}: {one.bundle or 'no bundle'}, {one.arm}, status {one.status}, {one.candidates} candidates, "
        f"{one.history or 0} behaviours, rankings in its batch: {batches}"
    )


def _lines(one: Captured, replayed: Replayed) -> list[str]:
    lines = [f"  {'stage':<8}{'captured ms':>14}{'replayed ms':>14}"]
    for stage, captured in [*one.stages_ms.items(), ("total", one.total_ms)]:
        again = replayed.stages_ms.get(stage)
        lines.append(f"  {stage:<8}{captured:>14.3f}{'-' if again is None else format(again, '.3f'):>14}")
    return [*lines, *([f"  not run again: {replayed.problem}"] if replayed.problem else [])]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.replay", description="Run slow rankings again.")
    parser.add_argument("source", help="file with the answer of GET /debug/slow, or its address (http://...)")
    parser.add_argument("--key-file", type=Path, help="for an address: file with an API key of the scope admin")
    parser.add_argument("--bundles", type=Path, required=True, help="folder of the bundles, <model>/<version> each")
    parser.add_argument(
        "--signers", type=Path, default=signers_of_environment(),
        help="public keys: only bundles that one of them signed are run (default: RANKER_BUNDLES__SIGNERS)",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=20, help="runs of each ranking; the medians are printed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
