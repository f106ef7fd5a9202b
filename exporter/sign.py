"""Sign bundles, and make the keys for it (docs/security.md).

python -m exporter.sign new-key KEYFILE             write a private key, and its public key to KEYFILE.pub
python -m exporter.sign bundle KEYFILE BUNDLE...    sign bundles that exist
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.command_line import run
from exporter.signing import SigningKey, make_key, sign_bundle


def main(arguments: Sequence[str] | None = None) -> int:
    """Sign, or make a key; return 0, or 1 after printing one line with the reason."""
    options = _parser().parse_args(arguments)
    return run("exporter.sign", lambda: _new_key(options) if options.command == "new-key" else _sign(options))


def _new_key(options: argparse.Namespace) -> int:
    key = make_key(options.key)
    print(f"{options.key}: private key {key.id}; keep it where bundles are made, and give services {options.key}.pub")
    return 0


def _sign(options: argparse.Namespace) -> int:
    key = SigningKey.read(options.key)
    for bundle in options.bundles:
        sign_bundle(bundle, key)
        print(f"{bundle}: signed by {key.id}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exporter.sign", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    new_key = commands.add_parser("new-key", help="make a key pair")
    new_key.add_argument("key", type=Path, metavar="KEYFILE", help="a new file; the public key gets its name and .pub")
    bundle = commands.add_parser("bundle", help="sign bundles that exist")
    bundle.add_argument("key", type=Path, metavar="KEYFILE", help="private key, as new-key writes it")
    bundle.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="the folder <model>/<version>")
    return parser


if __name__ == "__main__":
    sys.exit(main())
