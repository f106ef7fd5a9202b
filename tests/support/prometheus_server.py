"""A real Prometheus of a test's own, with this repository's configuration and rules and a much shorter patience."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.programs import needed
from tests.support.redis_server import free_port

SOURCE = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
SCRAPE = "1s"  # also the longest that a scrape may take: a busy machine is slow
EVALUATE = "500ms"
PATIENCE_SECONDS = 60

Series = dict[str, Any]


class Prometheus:
    """One server that scrapes one ranker, one sink and perhaps one guard at loopback ports.

    Args:
        key: the API key for the ranker, if it demands one.
    """

    def __init__(
        self, target: str, sink: str, alertmanager: str | None = None, guard: str | None = None, key: str | None = None
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ranker-prometheus-"))
        port = free_port()
        targets = {"ranker": target, "ranker-sink": sink, "ranker-guard": guard, "prometheus": f"127.0.0.1:{port}"}
        self._configure(targets, alertmanager, key)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        command = [
            str(needed("prometheus", "prometheus")),
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--rules.alert.resend-delay=1s",
            "--log.level=error",
        ]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self.wait_until(self._is_ready, "Prometheus answers")
        except AssertionError:
            self.close()
            raise

    def query(self, expression: str) -> list[Series]:
        """Return the series that an expression gives now; a wrong expression fails the test."""
        answer = self._client.post("/api/v1/query", data={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        result: list[Series] = answer["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule as this server knows it."""
        groups = self._client.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def wait_until(self, done: Callable[[], bool], what: str) -> None:
        """Ask again and again until it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, f"never so: {what}"
            time.sleep(0.05)

    def scrapes(self) -> int:
        """Return how often the ranker was scraped with success."""
        found = self.query('sum (count_over_time((up{job="ranker"} == 1)[1h:250ms]))')
        return int(float(found[0]["value"][1])) if found else 0

    def close(self) -> None:
        """Stop the server and remove what it wrote."""
        self._client.close()
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _authorize(self, job: dict[str, Any], key: str | None) -> None:
        """Let a job read its key from a file of this server, or send none."""
        if key is None:
            del job["authorization"]
            return
        file = self._folder / "key"
        file.write_text(key, encoding="utf-8")
        job["authorization"]["credentials_file"] = str(file)

    def _configure(self, targets: dict[str, str | None], alertmanager: str | None, key: str | None) -> None:
        config = yaml.safe_load((SOURCE / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": EVALUATE}
        config["alerting"]["alertmanagers"] = (
            [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
        )
        for job in config["scrape_configs"]:
            if "authorization" in job:
                self._authorize(job, key)
            job.pop("dns_sd_configs", None)
            target = targets[job["job_name"]]
            job["static_configs"] = [{"targets": [target]}] if target is not None else []
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        (self._folder / "rules").mkdir()
        for path in sorted((SOURCE / "rules").glob("*.yml")):
            rules = yaml.safe_load(path.read_text(encoding="utf-8"))
            for group in rules["groups"]:
                group["interval"] = EVALUATE
            (self._folder / "rules" / path.name).write_text(yaml.safe_dump(rules), encoding="utf-8")
