"""Make keys, and check an access file: `python -m service.access --help` (docs/access.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.command_line import CommandError, run
from service.access.file import MAX_FILE_BYTES, AccessFileError, read_access
from service.access.keys import hash_of, new_key


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m service.access", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("new-key", help="print a new key for a caller, and its hash for the access file")
    check = commands.add_parser("check", help="say whether an access file can be used")
    check.add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    return run("access", _new_key if options.command == "new-key" else lambda: _check(options.file))


def _new_key() -> int:
    key = new_key()
    print(f"key:  {key}\nhash: {hash_of(key)}")
    print(
        "Give the key to the caller and put the hash into the access file. The key is stored nowhere.", file=sys.stderr
    )
    return 0


def _check(path: Path) -> int:
    with path.open("rb") as content:
        try:
            file = read_access(content.read(MAX_FILE_BYTES + 1))
        except AccessFileError as error:
            raise CommandError(f"{path}: {'; '.join(error.problems)}") from error
    for caller in file.callers:
        print(f"{caller.id}: {len(caller.keys)} of 2 keys, scopes {', '.join(sorted(caller.scopes))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
