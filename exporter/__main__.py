"""`python -m exporter RUN --out bundles [--version V] [--force] [--no-reference] [--sign KEYFILE] [--mlflow URI]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.command_line import run
from contract.tracking import URI_VARIABLE, tracking_uri
from exporter.bundle.write import Seal
from exporter.card.tracking import track_card
from exporter.export import Exported, export_run
from exporter.parity.table import parity_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a run; return 0, or 1 after printing one line with the reason."""
    options = _parser().parse_args(arguments)
    return run("exporter", lambda: _export(options))


def _export(options: argparse.Namespace) -> int:
    seal = seal_of(options.sign) if options.sign is not None else None
    exported = export_run(
        options.run, options.out, options.version, force=options.force, seal=seal, reference=options.reference
    )
    print(parity_table(exported.report))
    print(_summary(exported))
    failure = track_card(options.run, exported.bundle, options.mlflow)
    if failure is not None:
        print(failure, file=sys.stderr)
    return 0


def seal_of(key_file: Path) -> Seal:
    """Return what signs a bundle with a private key.

    Raises:
        ExportError: the key cannot be used; found before the work begins.
    """
    from exporter.signing import SigningKey, add_signature  # the extra `signing`

    key = SigningKey.read(key_file)
    return lambda directory: add_signature(directory, key)


def _summary(exported: Exported) -> str:
    encode, score = exported.traced.encode, exported.traced.score
    return (
        f"{exported.bundle}: encode {encode.nodes} nodes, {len(encode.content):,} bytes; "
        f"score {score.nodes} nodes, {len(score.content):,} bytes"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m exporter", description="Turn a training run into a bundle.")
    parser.add_argument("run", type=Path, help="run directory, as training wrote it")
    parser.add_argument("--out", type=Path, default=Path("bundles"), help="folder of the bundles (default: bundles)")
    parser.add_argument("--version", help="name of the version (default: the next free whole number)")
    parser.add_argument("--force", action="store_true", help="export a model that is below popularity or chance too")
    parser.add_argument(
        "--no-reference", dest="reference", action="store_false",
        help="leave out reference.json: services before December 2026 refuse a bundle with it",
    )  # fmt: skip
    parser.add_argument(
        "--sign", type=Path, metavar="KEYFILE", help="private key that signs the bundle (python -m exporter.sign)"
    )
    parser.add_argument(
        "--mlflow", metavar="URI", default=tracking_uri(),
        help=f"tracking server of the training: it gets the model card (default: ${URI_VARIABLE})",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
