"""A real Alertmanager of a test's own, with this repository's routes and inhibition, and a receiver for messages."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.programs import needed
from tests.support.redis_server import free_port

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "alertmanager" / "alertmanager.yml"
PATIENCE_SECONDS = 60


class Receiver(HTTPServer):
    """Keeps the messages that arrive, by the name of the receiver that Alertmanager sent them for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.messages: dict[str, list[dict[str, Any]]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop to listen."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.messages.setdefault(message["receiver"], []).append(message)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Alertmanager:
    """One server whose three receivers are filled in, as docs/alerts.md describes, and which does not wait."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ranker-alertmanager-"))
        self.received = Receiver()
        self._configure()
        self.address = f"127.0.0.1:{free_port()}"
        self._client = httpx.Client(base_url=f"http://{self.address}/api/v2", timeout=10)
        command = [
            str(needed("prometheus-alertmanager", "prometheus-alertmanager")),
            f"--config.file={self._folder / 'alertmanager.yml'}",
            f"--storage.path={self._folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self.wait_until(self._answers, "Alertmanager answers")
        except AssertionError:
            self.close()
            raise

    def post(self, *alerts: dict[str, str]) -> None:
        """Send alerts, each by its labels."""
        answer = self._client.post("/alerts", json=[{"labels": labels} for labels in alerts])
        assert answer.status_code == 200, answer.text

    def states(self) -> dict[tuple[str, ...], str]:
        """Return `active` or `suppressed` for each alert, by its name and other labels without the severity."""
        return {
            (labels.pop("alertname"), *sorted(value for name, value in labels.items() if name != "severity")): alert[
                "status"
            ]["state"]
            for alert in self._client.get("/alerts").json()
            for labels in [alert["labels"]]
        }

    def wait_until(self, done: Any, what: str) -> None:
        """Ask again and again until it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, f"never so: {what}"
            time.sleep(0.05)

    def close(self) -> None:
        """Stop the server and remove what it wrote."""
        self._client.close()
        self._process.terminate()
        self._process.wait()
        self.received.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return self._client.get("/status").status_code == 200
        except httpx.TransportError:
            return False

    def _configure(self) -> None:
        config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        url = f"http://127.0.0.1:{self.received.server_port}/"
        for receiver in config["receivers"]:
            receiver["webhook_configs"] = [{"url": url}]
        for route in [config["route"], *config["route"]["routes"]]:
            route |= {"group_wait": "0s", "group_interval": "1s"}
        (self._folder / "alertmanager.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
