"""Write every dashboard to deploy/grafana/dashboards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from contract.command_line import run
from deploy.dashboards.experiment import EXPERIMENT
from deploy.dashboards.inference import INFERENCE
from deploy.dashboards.render import render
from deploy.dashboards.service import SERVICE

BOARDS = (SERVICE, INFERENCE, EXPERIMENT)
FOLDER = Path(__file__).resolve().parents[1] / "grafana" / "dashboards"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write every dashboard; returns the exit status."""
    argparse.ArgumentParser(prog="python -m deploy.dashboards", description=__doc__).parse_args(arguments)
    return run("dashboards", _write)


def _write() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        path = FOLDER / f"{board.name}.json"
        path.write_text(render(board), encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
