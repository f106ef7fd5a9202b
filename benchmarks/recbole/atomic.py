"""Write prepared data as RecBole's atomic file, so that both sides train on the same rows in the same order.

python -m benchmarks.recbole.atomic --data data --out OUT

Every interaction's time is its place in the prepared data, which are sorted by user and time: strictly increasing for
every user, so the order that we gave equal times is RecBole's order too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from contract.command_line import run
from training.data.prepare import load_prepared


def main() -> int:
    """Write OUT/<data set>-cut/<data set>-cut.inter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of prepared data sets (default data)")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    prepared = load_prepared(options.data / options.dataset)
    users = np.repeat(np.arange(1, len(prepared.users) + 1), np.diff(prepared.user_starts))
    name = f"{options.dataset}-cut"  # RecBole replaces a data set named ml-100k with its bundled copy
    path = options.out / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for place, (user, item) in enumerate(zip(users.tolist(), prepared.columns["items"].tolist(), strict=True)):
            file.write(f"u{user}\ti{item}\t{place}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run("error", main))
