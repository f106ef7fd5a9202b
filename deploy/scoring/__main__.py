"""The best items of every user as Parquet, from a bundle and the users' behaviours (docs/batch-scoring.md).

python -m deploy.scoring bundles/sasrec/1 data/ml-100k/behaviours.csv --out scored --workers 2
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from contract.command_line import CommandError, run
from contract.files import whole_folder, write_json
from service.settings.environment import signers_of_environment

SUMMARY: Final = "_scoring.json"  # readers of Parquet folders skip names that begin with an underscore


def main(arguments: list[str] | None = None) -> int:
    """Score; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run("scoring", lambda: _score(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.scoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="the folder <model>/<version> of a bundle")
    parser.add_argument("behaviours", type=Path, help="CSV, Parquet or a folder of Parquet: one row per behaviour")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the lists")
    parser.add_argument("--candidates", type=Path, help="item ids, one per line, or Parquet with a column item_id")
    parser.add_argument("--popular", type=int, default=1000, help="without: so many popular items; 0 = all (1000)")
    parser.add_argument("--top", type=int, default=100, help="items of a list (default 100)")
    parser.add_argument("--seen", choices=("keep", "drop"), default="drop", help="items of the history (default drop)")
    parser.add_argument("--workers", type=int, default=0, help="workers of Ray Data; 0 = this process (default)")
    parser.add_argument("--address", help="of a running Ray cluster (default: start one here)")
    parser.add_argument("--threads", type=int, default=1, help="threads of one run (default 1)")
    parser.add_argument("--provider", choices=("cpu", "cuda", "auto"), default="cpu", help="of ONNX Runtime")
    parser.add_argument(
        "--signers", type=Path, default=signers_of_environment(),
        help="public keys, one of which must have signed the bundle (default: RANKER_BUNDLES__SIGNERS)",
    )  # fmt: skip
    parser.add_argument("--at", type=int, metavar="MS", help="time of the request in ms (default: now)")
    return parser


def _score(options: argparse.Namespace) -> int:
    from deploy.scoring.candidates import chosen
    from deploy.scoring.histories import write_histories

    _check(options)
    began = time.monotonic()
    options.out.absolute().parent.mkdir(parents=True, exist_ok=True)
    candidates = chosen(options.bundle, options.candidates, options.popular, options.signers)
    with tempfile.TemporaryDirectory(dir=options.out.absolute().parent, prefix=".histories-") as scratch:
        histories = Path(scratch) / "histories"
        users = write_histories(options.behaviours, histories)
        with whole_folder(options.out) as out:
            _write_lists(options, candidates.items, histories, out)
            told: dict[str, object] = {
                "model": options.bundle.absolute().parent.name,
                "version": options.bundle.absolute().name,
                "bundle_digest": candidates.bundle,
                "users": users,
                "candidates": len(candidates.items),
                "unknown_candidates": candidates.unknown,
                "top": options.top,
                "seen": options.seen,
                "workers": options.workers,
            }
            write_json(out / SUMMARY, told | {"seconds": round(time.monotonic() - began, 1)})
    print(json.dumps(told))
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.out.exists():
        raise CommandError(f"{options.out} exists; name a new folder")
    for name, least in (("popular", 0), ("top", 1), ("workers", 0), ("threads", 1)):
        if getattr(options, name) < least:
            raise CommandError(f"--{name}: {getattr(options, name)} is fewer than {least}")


def _write_lists(options: argparse.Namespace, items: tuple[str, ...], histories: Path, out: Path) -> None:
    from deploy.scoring.scorer import Plan
    from deploy.scoring.workers import score_here, score_with_ray

    at: Any = time.time_ns() // 1_000_000 if options.at is None else options.at
    bundle = options.bundle.absolute()
    signers = None if options.signers is None else options.signers.absolute()
    plan = Plan(bundle, items, options.top, options.seen, at, options.provider, options.threads, signers)
    if options.workers:
        score_with_ray(histories, out, plan, options.workers, options.address)
    else:
        score_here(histories, out, plan)


if __name__ == "__main__":
    sys.exit(main())
