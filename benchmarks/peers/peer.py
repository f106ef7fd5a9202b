"""The servers that are compared: how each is started, in an environment of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.processes import free_port

SERVERS: Final = Path(__file__).parent / "servers"
REQUIREMENTS: Final = Path(__file__).parent / "requirements"


@dataclass(frozen=True)
class Peer:
    """A server in another environment.

    Attributes:
        name: of its figures.
        title: for people.
        environment: name of its requirements file and of its virtual environment.
        command: the words after the environment's `bin/`; `{port}` is replaced.
        ready: a path that answers 200 once it serves.
        variables: environment variables; `{port}` is replaced, `{free}` by another free port.
    """

    name: str
    title: str
    environment: str
    command: tuple[str, ...]
    ready: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def pins(self) -> Path:
        """Return the requirements file of its environment."""
        return REQUIREMENTS / f"{self.environment}.txt"

    def words(self, bin_folder: Path, port: int, answer: Path) -> list[str]:
        """Return the command line."""
        program, *rest = self.command
        return [str(bin_folder / program), *(word.format(port=port, answer=answer) for word in rest)]

    def settings(self, port: int) -> dict[str, str]:
        """Return the environment variables of its own."""
        return {name: value.format(port=port, free=free_port(0)) for name, value in self.variables.items()}


def _script(name: str, *arguments: str) -> tuple[str, ...]:
    return ("python", str(SERVERS / name), *arguments)


def _mosec(wait_ms: str) -> tuple[str, ...]:
    options = ("--port", "{port}", "--address", "127.0.0.1", "--log-level", "warning")
    return _script("serve_mosec.py", *options, wait_ms)


PEERS: Final = (
    Peer(
        "fastapi", "plain FastAPI + redis-py + ONNX Runtime", "fastapi", _script("serve_fastapi.py", "{port}"),
        "/health",
    ),
    Peer("mosec", "mosec, batches wait 1 ms", "mosec", _mosec("1"), "/"),
    Peer("mosec_2", "mosec, batches wait 2 ms", "mosec", _mosec("2"), "/"),
    Peer(
        "mlserver", "MLServer", "mlserver", ("mlserver", "start", "."), "/v2/health/ready",
        {
            "MLSERVER_HTTP_PORT": "{port}", "MLSERVER_HOST": "127.0.0.1", "MLSERVER_GRPC_PORT": "{free}",
            "MLSERVER_METRICS_PORT": "{free}", "MLSERVER_PARALLEL_WORKERS": "0", "MLSERVER_DEBUG": "false",
            "MLSERVER_GZIP_ENABLED": "false",
        },
    ),
    Peer("litserve", "LitServe", "litserve", _script("serve_litserve.py", "{port}"), "/health"),
    Peer(
        "bentoml", "BentoML", "bentoml",
        ("bentoml", "serve", "serve_bentoml:Ranker", "--host", "127.0.0.1", "--port", "{port}"), "/readyz",
        {"BENTOML_DO_NOT_TRACK": "true"},
    ),
    Peer(
        "ray", "Ray Serve", "ray", _script("serve_ray.py", "{port}"), "/-/healthz",
        {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
)  # fmt: skip
ECHOES: Final = (
    Peer("echo", "bare ASGI echo", "fastapi", _script("serve_echo.py", "{port}", "{answer}"), "/"),
    Peer(
        "echo_log", "bare ASGI echo with uvicorn's access line", "fastapi",
        _script("serve_echo.py", "{port}", "{answer}", "log"), "/",
    ),
)  # fmt: skip


def write_model_settings(folder: Path) -> None:
    """Write what MLServer looks for in the folder where it is started."""
    document = {"name": "ranker", "implementation": "serve_mlserver.Ranker"}
    (folder / "model-settings.json").write_text(json.dumps(document))
