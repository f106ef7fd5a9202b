"""Daily training replayed on a week of KuaiRand-Pure: `python -m benchmarks.daily [--work FOLDER]`.

Eight ways to train every day, two small models, one thread. A run that was stopped goes on where it was.
`--show` draws the picture again from the results.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from benchmarks.daily.days import FIRST, LAST
from benchmarks.daily.replay import per_query, replay
from benchmarks.daily.systems import CHAINS
from benchmarks.daily.table import Chain, markdown
from contract.command_line import run
from contract.files import write_json

RESULT: Final = "kuairand-pure.json"


def main(arguments: list[str] | None = None) -> int:
    """Replay; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.daily", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs-daily"), help="folder of data and runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/daily"), help="folder of the results")
    parser.add_argument("--picture", type=Path, default=Path("docs/daily.png"), help="file of the picture")
    parser.add_argument("--show", action="store_true", help="train nothing: draw the picture from the results")
    options = parser.parse_args(arguments)
    if options.show:
        return run("daily", lambda: _show(options.out, options.picture))
    return run("daily", lambda: _measure(options.work, options.out, options.picture))


def _show(out: Path, picture: Path) -> int:
    from benchmarks.daily.picture import draw

    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in json.loads((out / RESULT).read_text(encoding="utf-8")):
        found.setdefault((record["model"], record["variant"]), []).append(record)
    draw([Chain(*key, records, []) for key, records in found.items()], picture)
    return 0


def _measure(work: Path, out: Path, picture: Path) -> int:
    from benchmarks.daily.picture import draw

    chains = []
    for model, variants in CHAINS.items():
        for variant in variants:
            records = []
            for record in replay(model, variant, work):
                metric = record[record["first"]]["ndcg@10"]
                print(
                    f"{model}, {variant}, day {record['day']}: NDCG@10 {metric:.4f}, {record['cpu_seconds']:.1f} CPU s"
                )
                records.append(record)
            days = [per_query(model, variant, day, work) for day in range(FIRST + 1, LAST + 2)]
            chains.append(Chain(model, variant, records, days))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RESULT, [record for chain in chains for record in chain.records])
    (out / "kuairand-pure.md").write_text(markdown(chains), encoding="utf-8")
    draw(chains, picture)
    print(markdown(chains))
    return 0


if __name__ == "__main__":
    sys.exit(main())
