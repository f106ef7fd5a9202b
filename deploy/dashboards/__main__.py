"""Write every dashboard to deploy/grafana/dashboards."""

from __future__ import annotations

from pathlib import Path

from deploy.dashboards.experiment import EXPERIMENT
from deploy.dashboards.inference import INFERENCE
from deploy.dashboards.render import render
from deploy.dashboards.service import SERVICE

BOARDS = (SERVICE, INFERENCE, EXPERIMENT)
FOLDER = Path(__file__).resolve().parents[1] / "grafana" / "dashboards"


def main() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        path = FOLDER / f"{board.name}.json"
        path.write_text(render(board), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
