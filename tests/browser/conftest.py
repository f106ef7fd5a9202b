"""Chromium without a window, and a real service with two tiny models of hostile films in front of a real Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from contract.bundle import manifest as names
from deploy.experiments import write_current
from tests.support.builders import TinyModel
from tests.support.programs import needed
from tests.support.redis_server import RedisServer, free_port

ROOT = Path(__file__).resolve().parents[2]
HOSTILE_TITLE = '<img src=x onerror="document.title=\'owned\'"><b>Bold</b> & "quoted"'
HOSTILE_ITEM = "<script>document.title='owned'</script>'; echo owned #"
HOSTILE_USER = "<b>user</b>'\"&"
CHROMIUM_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@dataclass(frozen=True)
class FilmModel(TinyModel):
    """A tiny model with films; one has markup for a title, another one for an id."""

    @property
    def item_ids(self) -> list[str]:
        return [HOSTILE_ITEM, *(f"i{index}" for index in range(2, self.items + 1))]

    def write(self, bundles: Path) -> Path:
        directory = super().write(bundles)
        films = {item_id: {"title": f"Film {item_id}", "genres": ["Drama"]} for item_id in self.item_ids[1:]}
        films["i2"]["title"] = HOSTILE_TITLE
        (directory / names.CATALOGUE).write_text(json.dumps({"items": films}), encoding="utf-8")
        self.seal(directory)
        return directory


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of sixty films; the first one knows users."""
    directory = tmp_path_factory.mktemp("bundles")
    FilmModel(model="mgnm", items=60, users=30).write(directory)
    FilmModel(model="pyramid_mixer", items=60, offset=3.0).write(directory)
    return directory


@pytest.fixture(scope="session")
def store(_redis_server: RedisServer) -> RedisServer:
    """The Redis behind the service; a test that freezes it also thaws it."""
    return _redis_server


@pytest.fixture(scope="session")
def page_url(store: RedisServer, bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service with the page on; yields its URL."""
    folder = tmp_path_factory.mktemp("service")
    write_current(folder / "experiments.yaml")
    settings = {"RANKER_EXPERIMENTS__FILE": str(folder / "experiments.yaml")}
    with running(folder, store, bundles, settings) as url:
        yield url


@pytest.fixture
def userless_url(own_redis: RedisServer, tmp_path: Path) -> Iterator[str]:
    """A running service whose only model reads no user, before a store of its own."""
    FilmModel(model="pyramid_mixer", items=60).write(tmp_path / "bundles")
    with running(tmp_path, own_redis, tmp_path / "bundles", {}) as url:
        yield url


@pytest.fixture
def operators_url(store: RedisServer, bundles: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A running service whose page is on a port of operators; yields the URLs of both ports."""
    port = free_port()
    settings = {"RANKER_ADMIN__PORT": str(port), "RANKER_BUNDLES__DEFAULT_MODEL": "mgnm"}
    with running(tmp_path, store, bundles, settings) as url:
        yield url, f"http://127.0.0.1:{port}"


@contextmanager
def running(folder: Path, store: RedisServer, bundles: Path, settings: dict[str, str]) -> Iterator[str]:
    """Run a service with the page on; yield its URL."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RANKER_")},
        "RANKER_REDIS__URL": store.url,
        "RANKER_REDIS__READ_TIMEOUT_MS": "1000",  # a busy machine does not mean that the store is down
        "RANKER_LIMITS__DEADLINE_MS": "20000",
        "RANKER_LIMITS__MAX_DEADLINE_MS": "20000",
        "RANKER_BUNDLES__ROOT": str(bundles),
        "RANKER_HTTP__PORT": str(port),
        "RANKER_HTTP__DRAIN_DELAY_MS": "0",
        "RANKER_PAGE__ENABLED": "true",
        "OMP_NUM_THREADS": "1",
        **settings,
    }
    with (folder / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, folder / "service.log")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail("the service did not get ready:\n" + log.read_text(errors="replace")[-3000:])
        time.sleep(0.05)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """Chromium with a profile of its own; it downloads nothing, its driver least of all."""
    chromium, driver = needed("chromium", "chromium"), needed("chromedriver", "chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*CHROMIUM_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    window = webdriver.Chrome(options=options, service=Service(str(driver)))
    window.set_window_size(1400, 1000)
    yield window
    window.quit()
