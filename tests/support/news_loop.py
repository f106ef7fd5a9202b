"""The daily loop on the generated news log: three days, each a call of `python -m deploy.daily`.

python -m tests.support.news_loop FOLDER [--seed 7 8 9]      prints NDCG@10 by day and kind of target (docs/daily.md)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.news_days import write_days
from tests.support.news_log import NewsLog, news_log
from tests.support.service_process import ROOT

DAYS: Final = {"2025-03-06": 3, "2025-03-07": 4, "2025-03-08": 5}
"""The three calls, and how many days of the log each has."""
SIZE: Final = {"events": 150_000, "users": 3_000, "articles": 1_500, "days": 5}
VIEWS: Final = ("unseen", "warm", "cold")
RECIPE: Final = """dataset = "news"
model = "sasrec"
[config]
length = 16
width = 32
blocks = 1
inner = 64
side = ["category", "author", "title", "tags", "words"]
out_side = true
popularity_bias = true
id_dropout = 0.3
[split]
protocol = "time"
valid_hours = 2
test_hours = 3
[training]
epochs = 8
batch = 128
learning_rate = 0.005
patience = 2
seen = "drop"
[warm]
epochs = 4
"""


class NewsLoop:
    """The loop of a feed, each call a process.

    Args:
        folder: of the log and of all that the loop makes.
        log: of five days.
    """

    def __init__(self, folder: Path, log: NewsLog) -> None:
        self.folder, self.log, self.state = folder, log, folder / "state" / "daily"
        (folder / "recipe.toml").write_text(RECIPE)
        places = [f"--{name}={folder / name}" for name in ("data", "runs", "bundles", "state")]
        self._command = [sys.executable, "-m", "deploy.daily", *places, f"--log={folder / 'news.csv'}"]
        self._command.append(f"--recipe={folder / 'recipe.toml'}")

    def arrives(self, days: int) -> None:
        """Write the log up to the end of a day."""
        write_days(self.log, self.folder / "news.csv", days)

    def begin(self, day: str) -> subprocess.Popen[str]:
        """Start a call, the leader of a process group."""
        return subprocess.Popen(
            [*self._command, "--day", day], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def call(self, day: str) -> tuple[dict[str, Any], int]:
        """Return the line and the status of a whole call."""
        process = self.begin(day)
        said, _ = process.communicate()
        return (json.loads(said) if said else {}), process.returncode


def over_days(days: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the mean over the queries of some days, from the figures of one kind of targets."""
    return sum(day["queries"] * day[name] for day in days) / sum(day["queries"] for day in days)


def three_days(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Return the figures of each day, by kind of targets."""
    folder.mkdir(parents=True)
    loop, found = NewsLoop(folder, news_log(**SIZE, seed=seed)), []
    for day, days in DAYS.items():
        loop.arrives(days)
        line, status = loop.call(day)
        if status:
            raise SystemExit(f"{day}: {line}")
        found.append(line["figures"]["views"])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print NDCG@10 of the candidate and of popularity of the day, for three days and over them."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.news_loop", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, nargs="+", default=[7], help="of the log, one or more (default 7)")
    options = parser.parse_args(arguments)
    print("| Seed | Day | Unseen | Warm | Cold |\n| --- | --- | --- | --- | --- |")
    for seed in options.seed:
        days = three_days(options.folder / str(seed), seed)
        for name, chosen in (*((str(number), [day]) for number, day in enumerate(days, start=1)), ("all", days)):
            cells = [_cell([day[view] for day in chosen]) for view in VIEWS]
            print(f"| {seed} | {name} | {' | '.join(cells)} |", flush=True)


def _cell(days: Sequence[Mapping[str, Any]]) -> str:
    return f"{over_days(days, 'candidate'):.4f} / {over_days(days, 'popularity_of_day'):.4f}"


if __name__ == "__main__":
    main()
