"""Loads a behaviours file into a running service, through its HTTP API.

    python -m service.seed data/ml-100k/behaviours.csv --url http://127.0.0.1:8000

The file is read as `training prepare` reads it (contract.behaviours.file, docs/data.md). A file with a bad line is not
sent at all, unless bad lines are skipped. Appending is idempotent, so a load can be repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from contract.behaviours.file import SkippedLines
from contract.command_line import run
from service.access.keys import read_key
from service.seed.load import CONNECTIONS, load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status: 1 if the service refused something, or nothing could be read."""
    options = _parser().parse_args(arguments)
    return run("error", lambda: _load(options))


def _load(options: argparse.Namespace) -> int:
    began = time.monotonic()
    skipped = SkippedLines(options.file) if options.skip_bad_lines else None
    key = read_key(options.key_file)
    counts, refused = load(options.file, options.url, connections=max(1, options.connections), skipped=skipped, key=key)
    for told in [*(skipped.told() if skipped is not None else []), *refused]:
        sys.stderr.write(f"{told}\n")
    if counts["refused"] > len(refused):
        sys.stderr.write(f"refused: {counts['refused'] - len(refused):,} more\n")
    seconds = time.monotonic() - began
    told = ", ".join(f"{counts[name]:,} {name}" for name in ("read", "stored", "repeated", "refused", "skipped"))
    sys.stdout.write(f"{told} in {seconds:.1f} s\n")
    return 1 if counts["refused"] or not counts["read"] > counts["skipped"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.seed", description="Load behaviours into a running service."
    )
    parser.add_argument("file", type=Path, help="CSV, also .gz: user_id,item_id,ts[,action,play_ms,value]")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the service")
    parser.add_argument("--key-file", type=Path, help="file with the API key of a caller with the scope write")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="requests at once")
    parser.add_argument(
        "--skip-bad-lines", action="store_true", help="skip, count and list them (default: send nothing)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
