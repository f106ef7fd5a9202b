"""A real HAProxy with this repository's configuration before replicas on this machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.load.servers import answers, running
from tests.support.programs import needed
from tests.support.redis_server import free_port

CONFIGURATION: Final = Path(__file__).resolve().parents[2] / "deploy" / "haproxy" / "haproxy.cfg"


@contextmanager
def proxy(one: int, two: int, folder: Path, *, logs: bool = False) -> Iterator[int]:
    """Run it; yields its port. Its log is `haproxy.log` in the folder.

    Args:
        one: port of a replica.
        two: of another one, or the same.
        folder: for its log.
        logs: log every request, with the line that the configuration has as a comment.
    """
    program = str(needed("haproxy", "haproxy"))
    port = free_port()
    configuration = folder / "haproxy.cfg"
    text = CONFIGURATION.read_text(encoding="utf-8")
    configuration.write_text(text.replace("# log stdout", "log stdout") if logs else text, encoding="utf-8")
    environment = {
        **os.environ, "PROXY_BIND": f"127.0.0.1:{port}",
        "REPLICA_ONE": f"127.0.0.1:{one}", "REPLICA_TWO": f"127.0.0.1:{two}",
    }  # fmt: skip
    subprocess.run([program, "-c", "-q", "-f", str(configuration)], env=environment, check=True)
    with running(
        "haproxy", [program, "-db", "-f", str(configuration)], port=port, environment=environment, folder=folder,
        log=folder / "haproxy.log", is_ready=answers("/health/ready"),
    ):  # fmt: skip
        yield port
