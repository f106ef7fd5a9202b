"""Every command line is known here, and shows its usage when an option is bad.

tests/command_lines/ gives them bad files, data, runs, places and names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import __main__ as analysis
from benchmarks import catalogue, training_scale
from benchmarks import rules as rules_bench
from benchmarks.cold import __main__ as cold
from benchmarks.cold import histories as cold_histories
from benchmarks.cold import speed as cold_speed
from benchmarks.load import greedy, offer
from benchmarks.tables import __main__ as tables
from deploy import experiments
from deploy.compose import bootstrap
from deploy.daily import __main__ as daily
from deploy.dashboards import __main__ as dashboards
from deploy.demo import __main__ as demo
from deploy.experiment_demo import __main__ as experiment_demo
from exporter import __main__ as exporter
from exporter import sign
from training import __main__ as training

ROOT = Path(__file__).resolve().parents[1]
WALKED = {
    "training/__main__.py", "exporter/__main__.py", "exporter/check.py", "exporter/sign.py", "analysis/__main__.py",
    "service/__main__.py",
    "service/replay/__main__.py", "service/seed/__main__.py", "service/access/__main__.py",
    "deploy/compose/bootstrap.py", "deploy/demo/__main__.py", "deploy/local_redis.py", "deploy/dashboards/__main__.py",
    "deploy/experiments.py", "deploy/experiment_demo/__main__.py", "deploy/daily/__main__.py",
    "deploy/scoring/__main__.py",
    "benchmarks/load/offer.py", "benchmarks/load/greedy.py", "benchmarks/load/compare.py",
    "benchmarks/load/__main__.py", "benchmarks/load/profile.py", "benchmarks/load/start.py",
    "benchmarks/peers/__main__.py",
    "benchmarks/tables/__main__.py", "benchmarks/leak/mgnm_batch_position.py", "benchmarks/recbole/atomic.py",
    "benchmarks/recbole/table.py", "benchmarks/catalogue.py", "benchmarks/footprint.py",
    "benchmarks/hop.py", "benchmarks/gpu.py", "benchmarks/analysis.py", "benchmarks/training_scale.py",
    "benchmarks/cold/__main__.py", "benchmarks/cold/speed.py", "benchmarks/cold/histories.py", "benchmarks/rules.py",
}  # fmt: skip
ELSEWHERE = {
    "deploy/compose/check.py": "a test itself: it fails by an error",
    "service/inference/proof.py": "is started by the service only",
    "service/shadow/process.py": "is started by the service only",
    "deploy/kubernetes/__main__.py": "takes only --render",
    "benchmarks/load/waits.py": "takes only what benchmarks/load/__main__.py does",
    "benchmarks/load/soak.py": "takes only what benchmarks/load/__main__.py does, and numbers",
    "benchmarks/redis_sizes.py": "takes only what benchmarks/load/__main__.py does",
    "benchmarks/capacity.py": "takes only numbers",
    "benchmarks/load/neighbour.py": "takes only what benchmarks/load/__main__.py does",
    "benchmarks/decoder.py": "takes no arguments",
    "benchmarks/load/child_start.py": "takes no arguments",
    "benchmarks/sink.py": "takes no arguments",
    "benchmarks/scoring.py": "runs deploy/scoring/__main__.py, which is walked",
    "benchmarks/guard.py": "takes only --quick",
    "benchmarks/daily/__main__.py": "takes only folders",
    "benchmarks/prepare.py": "takes only the size of the log",
    "benchmarks/report/__main__.py": "writes from results that are there",
    **{
        f"benchmarks/peers/servers/{name}.py": "needs the environment of a peer"
        for name in (
            "onnx_loop",
            "serve_echo",
            "serve_fastapi",
            "serve_litserve",
            "serve_mosec",
            "serve_ray",
        )
    },
    "benchmarks/recbole/speed.py": "needs RecBole's environment",
    "benchmarks/recbole/run.py": "needs RecBole's environment",
    "benchmarks/recbole/metrics_fixture.py": "needs RecBole's environment",
    "benchmarks/recbole/models_fixture.py": "needs RecBole's environment",
}


def test_every_command_line_is_walked_here() -> None:
    found = {
        str(path.relative_to(ROOT))
        for room in ("contract", "models", "training", "exporter", "service", "deploy", "benchmarks", "analysis")
        for path in (ROOT / room).rglob("*.py")
        if re.search(r'^if __name__ == "__main__"', path.read_text(encoding="utf-8"), re.M)
    }
    assert found == WALKED | set(ELSEWHERE)


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (offer.main, ["--rate", "nan"]),
        (offer.main, ["--seconds", "inf"]),
        (offer.main, ["--candidates", "0"]),
        (offer.main, ["--port", "99999"]),
        (greedy.main, ["--rounds", "0"]),
        (greedy.main, ["--ports", "8000", "eight"]),
        (demo.main, ["--port", "0"]),
        (demo.main, ["--port", "eight"]),
        (experiment_demo.main, ["--day", "0s"]),
        (experiment_demo.main, ["--day", "20"]),
        (experiment_demo.main, ["--weeks", "0"]),
        (experiment_demo.main, ["--users", "many"]),
        (experiment_demo.main, ["--users", "10"]),
        (experiment_demo.main, ["--seed", "-1"]),
        (experiment_demo.main, ["--port", "eight"]),
        (daily.main, ["--day", "yesterday"]),
        (daily.main, ["--core", "few"]),
        (dashboards.main, ["--no-such-option"]),
        (experiments.main, []),
        (bootstrap.main, ["elsewhere"]),
        (training.main, ["train", "--seed", "x"]),
        (training.main, ["predict"]),
        (exporter.main, []),
        (sign.main, []),
        (tables.main, ["plan.toml", "--workers", "two"]),
        (catalogue.main, ["--items", "many"]),
        (training_scale.main, ["--items", "many"]),
        (cold.main, ["news", "--rows", "many"]),
        (cold_speed.main, []),
        (rules_bench.main, []),
        (cold_histories.main, ["news", "--rows", "many"]),
        (analysis.main, ["report", "e", "--data", "d", "--out", "o", "--memory", "lots"]),
        (analysis.main, ["report", "e", "--data", "d", "--out", "o", "--day", "soon"]),
        (analysis.main, ["report", "e", "--data", "d", "--out", "o", "--planned", "0"]),
        (analysis.main, ["interleave", "e", "--data", "d", "--credit", "active_days"]),
        (analysis.main, ["interleave", "e", "--data", "d", "--day", "soon"]),
        (analysis.main, ["plan", "--arms", "two"]),
        (analysis.main, ["prove", "--out", "o", "--replays", "3"]),
        (analysis.main, ["prove", "--out", "o", "--users", "many"]),
    ],
)
def test_an_unknown_option_or_value_is_shown_with_the_usage(
    main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """argparse's own way: usage, one line, status 2."""
    needed = ["--behaviours", "x"] if main in (offer.main, greedy.main) else []
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, *needed])
    assert "error: " in capsys.readouterr().err
