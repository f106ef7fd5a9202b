"""Every command line, with bad input: one line with the problem, status 1, and no half-made folder.

A traceback fails these tests by itself: the commands run in this process.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from analysis import __main__ as analysis
from benchmarks import analysis as report_bench
from benchmarks import catalogue, footprint, gpu, hop, training_scale
from benchmarks import rules as rules_bench
from benchmarks.cold import __main__ as cold
from benchmarks.cold import histories as cold_histories
from benchmarks.cold import speed as cold_speed
from benchmarks.leak import mgnm_batch_position
from benchmarks.load import __main__ as bench
from benchmarks.load import compare, greedy, offer
from benchmarks.peers import __main__ as peers
from benchmarks.recbole import atomic, table
from benchmarks.tables import __main__ as tables
from deploy import experiments
from deploy.compose import bootstrap
from deploy.daily import __main__ as daily
from deploy.dashboards import __main__ as dashboards
from deploy.demo import __main__ as demo
from deploy.experiment_demo import __main__ as experiment_demo
from deploy.scoring import __main__ as scoring
from exporter import __main__ as exporter
from exporter import check, sign
from service.access import __main__ as access
from service.replay import __main__ as replay
from service.seed import __main__ as seed
from tests.support.builders import TinyModel
from tests.support.command_lines import KINDS, spoilt
from tests.support.redis_server import free_port
from tests.support.warm_service import run_service
from training import __main__ as training
from training.data.datasets import generated
from training.data.prepare import prepare

ROOT = Path(__file__).resolve().parents[1]
WALKED = {
    "training/__main__.py", "exporter/__main__.py", "exporter/check.py", "exporter/sign.py", "analysis/__main__.py",
    "service/__main__.py",
    "service/replay/__main__.py", "service/seed/__main__.py", "service/access/__main__.py",
    "deploy/compose/bootstrap.py", "deploy/demo/__main__.py", "deploy/local_redis.py", "deploy/dashboards/__main__.py",
    "deploy/experiments.py", "deploy/experiment_demo/__main__.py", "deploy/daily/__main__.py",
    "deploy/scoring/__main__.py",
    "benchmarks/load/offer.py", "benchmarks/load/greedy.py", "benchmarks/load/compare.py",
    "benchmarks/load/__main__.py", "benchmarks/load/profile.py",
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
RECIPE = 'dataset = "small"\nmodel = "popularity"\n[training]\nepochs = 0\n'


class World(NamedTuple):
    """Good input to be spoilt."""

    folder: Path
    data: Path
    run: Path
    recipe: Path
    behaviours: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    prepare(generated.load(users=20, items=30, events=12, seed=1), folder / "data" / "small", core=2)
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    where = ["--data", str(folder / "data"), "--out", str(folder / "runs"), "--device", "cpu"]
    assert training.main(["train", str(recipe), *where]) == 0
    (facts,) = (folder / "runs").glob("*/*/*/run.json")
    return World(folder, folder / "data", facts.parent, recipe, folder / "data" / "small" / "behaviours.csv")


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy that a test may spoil."""
    copy = tmp_path / "world"
    shutil.copytree(made.folder, copy)
    return World(copy, *(copy / path.relative_to(made.folder) for path in made[1:]))


def test_every_command_line_is_walked_here() -> None:
    found = {
        str(path.relative_to(ROOT))
        for room in ("contract", "models", "training", "exporter", "service", "deploy", "benchmarks", "analysis")
        for path in (ROOT / room).rglob("*.py")
        if re.search(r'^if __name__ == "__main__"', path.read_text(encoding="utf-8"), re.M)
    }
    assert found == WALKED | set(ELSEWHERE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "command",
    [
        "prepare",
        "mapping",
        "train",
        "check",
        "replay",
        "seed",
        "access",
        "offer",
        "greedy",
        "compare",
        "bench",
        "peers",
        "tables",
        "catalogue",
        "scoring",
    ],
)
def test_a_file_that_is_no_such_file_is_one_line_that_names_it(
    command: str, kind: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    name = {
        "mapping": "names.toml",
        "train": "recipe.toml",
        "check": "recipe.toml",
        "tables": "plan.toml",
        "catalogue": "recipe.toml",
    }.get(command, "clips.csv")
    path, out = spoilt(tmp_path / name, kind), tmp_path / "out"
    log = tmp_path / "log.csv"
    log.write_text("uid,item,timestamp\nu,i,1700000000\n")
    lines: dict[str, tuple[object, ...]] = {
        "prepare": (training.main, "prepare", path, "--out", out),
        "mapping": (training.main, "prepare", log, "--mapping", path, "--out", out),
        "train": (training.main, "train", path, "--out", out),
        "check": (check.main, path),
        "replay": (replay.main, path, "--bundles", out),
        "seed": (seed.main, path),
        "access": (access.main, "check", path),
        "compare": (compare.main, "--base", ROOT, "--new", ROOT, "--behaviours", path),
        "bench": (bench.main, "--behaviours", path, "--out", out),
        "peers": (peers.main, "--behaviours", path, "--out", out),
        "offer": (offer.main, "--behaviours", path, "--seconds", "0.1"),
        "greedy": (greedy.main, "--behaviours", path, "--seconds", "0.1"),
        "tables": (tables.main, path, "--results", out, "--runs", out, "--data", out),
        "catalogue": (catalogue.main, "--recipe", path, "--items", "9", "--out", out),
        "scoring": (scoring.main, TinyModel().write(tmp_path / "bundles"), path, "--out", out / "lists"),
    }
    named = log.name if (command, kind) == ("mapping", "empty") else path.name  # an empty mapping names nothing
    assert named in refused(*lines[command])
    assert not out.exists() or not any(out.rglob("*"))


@pytest.mark.parametrize("name", ["clips.txt", "my clips.csv", "netflix"])
def test_a_data_set_of_another_name_is_refused(name: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / name).write_text("user,item,timestamp\na,b,1700000000\n")
    refused(training.main, "prepare", tmp_path / name if "." in name else name, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "binary", "a folder"])
@pytest.mark.parametrize(
    "name", ["interactions.npz", "items.json", "users.json", "features.npz", "features.json", "catalogue.json",
             "provenance.json"]
)  # fmt: skip
def test_prepared_data_that_are_damaged_are_named(
    world: World, name: str, kind: str, refused: Callable[..., str]
) -> None:
    spoilt(world.data / "small" / name, kind)
    out = world.folder / "out"
    assert "small" in refused(training.main, "train", world.recipe, "--data", world.data, "--out", out)
    assert not any(out.rglob("*"))


@pytest.mark.parametrize("kind", ["missing", "empty", "binary", "a folder"])
@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("evaluate", "recipe.json"),
        ("evaluate", "run.json"),
        ("evaluate", "checkpoint/weights.pt"),
        ("evaluate", "checkpoint/model.json"),
        ("evaluate", "checkpoint/facts.npz"),
        ("fit-all", "recipe.json"),
        ("fit-all", "run.json"),
        ("fit-all", "metrics.json"),
        ("from", "recipe.json"),
        ("from", "run.json"),
        ("from", "items.json"),
        ("from", "features.json"),
        ("from", "checkpoint/weights.pt"),
        ("compare", "run.json"),
        ("compare", "metrics.json"),
        ("compare", "per_query.npz"),
        ("export", "recipe.json"),
        ("export", "run.json"),
        ("export", "items.json"),
        ("export", "popularity.npy"),
        ("export", "checkpoint/weights.pt"),
        ("export", "checkpoint/model.json"),
        ("export", "checkpoint/facts.npz"),
    ],
)
def test_a_run_with_a_damaged_file_is_one_line(
    world: World, command: str, name: str, kind: str, refused: Callable[..., str]
) -> None:
    spoilt(world.run / name, kind)
    lines: dict[str, tuple[object, ...]] = {
        "evaluate": (training.main, "evaluate", world.run, "--data", world.data),
        "compare": (training.main, "compare", world.run),
        "fit-all": (training.main, "fit-all", world.run, "--data", world.data, "--out", world.folder / "runs"),
        "from": (training.main, "train", "--from", world.run, "--data", world.data, "--out", world.folder / "runs"),
        "export": (exporter.main, world.run, "--out", world.folder / "out"),
    }
    refused(*lines[command])
    assert not (world.folder / "out").exists()


@pytest.mark.usefixtures("operators_read_once")
@pytest.mark.parametrize(
    "command", ["prepare", "train", "export", "experiments", "tables", "bootstrap", "atomic", "catalogue"]
)
def test_a_place_that_cannot_be_written_is_one_line(world: World, command: str, refused: Callable[..., str]) -> None:
    out = world.folder / "a file"
    out.write_text("x")
    plan = world.folder / "ml-100k.toml"
    shutil.copy(ROOT / "benchmarks" / "tables" / "ml-100k.toml", plan)
    lines: dict[str, tuple[object, ...]] = {
        "prepare": (training.main, "prepare", "generated", "--out", out),
        "train": (training.main, "train", world.recipe, "--data", world.data, "--out", out),
        "export": (exporter.main, world.run, "--out", out),
        "experiments": (experiments.main, out / "experiments.yaml"),
        "tables": (tables.main, plan, "--show", "--results", out),
        "bootstrap": (bootstrap.main, "behaviours", "--work", out),
        "atomic": (_with_arguments(atomic.main), "--data", world.data, "--dataset", "small", "--out", out),
        "catalogue": (catalogue.main, "--recipe", world.recipe, "--items", "9", "--out", out),
    }
    assert "a file" in refused(*lines[command])
    assert out.read_text() == "x"


def _with_arguments(main: Callable[[], int]) -> Callable[[list[str]], int]:
    """Return a script's main, which reads sys.argv and is ended by `run`, as one that takes arguments."""

    def called(arguments: list[str]) -> int:
        from contract.command_line import run

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["script", *arguments])
            return run("error", main)

    return called


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "train"])
def test_a_disk_that_fills_is_one_line_and_leaves_no_folder(world: World, command: str) -> None:
    """A limit on the size of files ends a write as a full disk does, in the middle of it."""
    out = world.folder / "out"
    lines: dict[str, list[object]] = {
        "prepare": ["prepare", "generated", "--out", out],
        "train": ["train", world.recipe, "--data", world.data, "--out", out, "--device", "cpu"],
    }
    ended = subprocess.run(
        [sys.executable, "-m", "training", *map(str, lines[command])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000)),
    )
    assert ended.returncode == 1
    assert "File too large" in ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert not any(out.rglob("*"))


def test_scripts_without_their_data_say_so(tmp_path: Path, refused: Callable[..., str]) -> None:
    nowhere = tmp_path / "nowhere"
    assert "nowhere" in refused(footprint.main, nowhere)
    assert "nowhere" in refused(hop.main, nowhere)
    assert "nowhere" in refused(analysis.main, "prove", "--out", tmp_path / "out", "--kuairand", nowhere)
    assert "nowhere" in refused(gpu.main, nowhere, "--device", "cpu")
    assert "nowhere" in refused(_with_arguments(atomic.main), "--data", nowhere, "--out", tmp_path / "out")
    assert "nowhere" in refused(_with_arguments(table.main), "--results", nowhere)
    assert "nowhere" in refused(_with_arguments(mgnm_batch_position.main), "--data", nowhere)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://localhost", "http://", "http://localhost:eight", "http://localhost:99999", "http://[1"]
)  # fmt: skip
def test_a_mistyped_address_is_one_line(world: World, url: str, refused: Callable[..., str]) -> None:
    refused(seed.main, world.behaviours, "--url", url)


def test_a_service_that_is_not_there_is_one_line(
    world: World, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.seed.sender.time.sleep", lambda _: None)
    refused(seed.main, world.behaviours, "--url", f"http://127.0.0.1:{free_port()}")
    refused(replay.main, f"http://127.0.0.1:{free_port()}/debug/slow", "--bundles", world.folder)


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


def test_names_that_nothing_has_are_one_line(world: World, refused: Callable[..., str]) -> None:
    assert "no recipe for model 'nope'" in refused(demo.main, "--model", "nope")
    plan = ROOT / "benchmarks" / "tables" / "ml-100k.toml"
    assert "no row 'Nope'" in refused(tables.main, plan, "--only", "Nope", "--results", world.folder / "out")
    assert "at least 1" in refused(tables.main, plan, "--workers", "0", "--results", world.folder / "out")
    assert "nowhere" in refused(exporter.main, world.run, "--sign", "nowhere", "--out", world.folder / "out")
    assert "version" in refused(exporter.main, world.run, "--version", "../up", "--out", world.folder / "out")
    assert not (world.folder / "out").exists()


def test_what_cannot_be_signed_is_one_line(tmp_path: Path, refused: Callable[..., str]) -> None:
    key = tmp_path / "key"
    assert "nowhere" in refused(sign.main, "bundle", tmp_path / "nowhere", tmp_path)
    assert "nowhere" in refused(sign.main, "new-key", tmp_path / "nowhere" / "key")
    assert sign.main(["new-key", str(key)]) == 0
    assert "exists already" in refused(sign.main, "new-key", key)
    assert "manifest" in refused(sign.main, "bundle", key, tmp_path)


def test_dashboards_that_cannot_be_written_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(dashboards, "FOLDER", tmp_path / "file")
    assert "file" in refused(dashboards.main)


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"BUNDLES__ROOT": "/no/such/folder"}, 1),
        ({"REDIS__URL": "redis://localhost:eight"}, 2),
        ({"BUNDLES__ROOT": "/no/such/folder", "EXPERIMENTS__FILE": "/no/such/file.yaml"}, 1),
        ({"HTTP__PORT": "nan"}, 2),
        ({"BUNDLES__SIGNERS": "/no/such/key.pub"}, 1),
    ],
)
def test_a_service_that_cannot_start_says_why_and_ends(settings: dict[str, str], status: int) -> None:
    ended = run_service(settings)
    assert ended.returncode == status, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "service: " in ended.stderr


@pytest.mark.parametrize(("content", "words"), [(None, "has no EVENTS"), ("many", "damaged"), ("5 70", "has 5 users")])
def test_a_measurement_of_the_report_on_other_data_is_one_line(
    content: str | None, words: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    if content is not None:
        (tmp_path / "EVENTS").write_text(content)
    assert words in refused(report_bench.main, "--data", tmp_path, "--users", 10, "--out", tmp_path / "result.json")
    assert not (tmp_path / "result.json").exists()
