"""Names, keys and addresses of nothing, given to a command line: one line with the problem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import __main__ as analysis
from benchmarks import footprint, gpu, hop
from benchmarks.leak import mgnm_batch_position
from benchmarks.recbole import atomic, table
from benchmarks.tables import __main__ as tables
from deploy.demo import __main__ as demo
from exporter import __main__ as exporter
from exporter import sign
from service.replay import __main__ as replay
from service.seed import __main__ as seed
from tests.support.command_lines import World, with_arguments
from tests.support.redis_server import free_port
from tests.support.warm_service import run_service

ROOT = Path(__file__).resolve().parents[2]


def test_scripts_without_their_data_say_so(tmp_path: Path, refused: Callable[..., str]) -> None:
    nowhere = tmp_path / "nowhere"
    assert "nowhere" in refused(footprint.main, nowhere)
    assert "nowhere" in refused(hop.main, nowhere)
    assert "nowhere" in refused(analysis.main, "prove", "--out", tmp_path / "out", "--kuairand", nowhere)
    assert "nowhere" in refused(gpu.main, nowhere, "--device", "cpu")
    assert "nowhere" in refused(with_arguments(atomic.main), "--data", nowhere, "--out", tmp_path / "out")
    assert "nowhere" in refused(with_arguments(table.main), "--results", nowhere)
    assert "nowhere" in refused(with_arguments(mgnm_batch_position.main), "--data", nowhere)


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
