"""Trainings of two processes on this machine, joined by gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.behaviours.actions import ACTION_CODES
from tests.support.redis_server import free_port
from training.__main__ import main
from training.data.datasets import generated
from training.data.prepare import prepare

pytestmark = pytest.mark.slow

RECIPE = """dataset = "small"
model = "sasrec"
[config]
length = 8
width = 8
blocks = 1
inner = 8
dropout = 0.0
{config}
[positive]
weights = {{like = 5}}
[training]
epochs = 3
batch = 63
learning_rate = 0.01
{training}
"""
KINDS = {
    "all items": ("", ""),
    "sparse tables": ('objective = "logq"', 'negatives = 20\nnegatives_from = "mixed"\ntables = "sparse_adam"'),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    raw = generated.load(users=200, items=60, seed=2)
    actions = raw.actions.copy()
    actions[::3] = ACTION_CODES["like"]
    prepare(replace(raw, actions=actions), folder / "small", core=2)
    return folder


def _recipe(folder: Path, kind: str) -> Path:
    config, training = KINDS[kind]
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(config=config, training=training))
    return path


def _processes(size: int, mode: str, *paths: Path) -> list[subprocess.Popen[str]]:
    """Start processes as torchrun does, but without its agent, which ends all of them when one fails."""
    command = [sys.executable, "-m", "tests.support.first_step", mode, *map(str, paths)]
    told = {
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    return [
        subprocess.Popen(
            command,
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_RUN_ID": "test"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def _ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    errors = [process.communicate(timeout=100)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_two_processes_sum_to_the_gradient_of_one(tmp_path: Path, data: Path, kind: str) -> None:
    recipe = _recipe(tmp_path, kind)
    for size in (1, 2):
        ended = _ended(_processes(size, "gradients", data, recipe, tmp_path / f"{size}.npz"))
        assert [code for code, _ in ended] == [0] * size, ended
    one, two = np.load(tmp_path / "1.npz"), np.load(tmp_path / "2.npz")
    assert sorted(one) == sorted(two)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-7, err_msg=name)


def _trained(tmp_path: Path, data: Path, recipe: Path, seed: int, launcher: tuple[str, ...] = ()) -> dict[str, float]:
    out = tmp_path / f"runs-{seed}-{len(launcher)}"
    arguments = ["train", str(recipe), "--data", str(data), "--out", str(out), "--device", "cpu", "--seed", str(seed)]
    if launcher:
        command = [sys.executable, *launcher, "-m", "training", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("run: ") == 1
    else:
        assert main([*arguments, "--threads", "1"]) == 0
    (run,) = out.glob("*/*/*/run.json")
    facts = json.loads(run.read_text())
    assert facts["processes"] == (2 if launcher else 1)
    return dict(json.loads((run.parent / "metrics.json").read_text())["test"])


def test_torchrun_gives_the_metrics_of_one_process(tmp_path: Path, data: Path) -> None:
    recipe = _recipe(tmp_path, "all items")
    singles = [_trained(tmp_path, data, recipe, seed) for seed in (1, 2, 3)]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    together = _trained(tmp_path, data, recipe, 1, launcher)
    scores = [single["ndcg@10"] for single in singles]
    assert abs(together["ndcg@10"] - scores[0]) < np.ptp(scores)


def test_an_error_of_one_process_ends_the_others_with_its_message(tmp_path: Path, data: Path) -> None:
    ended = _ended(_processes(2, "error", data, _recipe(tmp_path, "all items"), tmp_path / "never"))
    assert [code for code, _ in ended] == [1, 1]
    assert "error: process 1 of 2: this disk is full" in ended[0][1]
    assert "error: this disk is full" in ended[1][1]


def test_a_process_that_never_answers_ends_the_wait_of_the_others(tmp_path: Path, data: Path) -> None:
    released = tmp_path / "released"
    first, last = _processes(2, "slow", data, _recipe(tmp_path, "all items"), released)
    ((code, error),) = _ended([first])
    released.touch()
    last.kill()
    _ended([last])
    assert code == 1
    assert "another process ended, or was too slow" in error
