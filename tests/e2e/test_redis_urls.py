"""The real process and Redis URLs: a bad one stops the start, and no secret of any is ever printed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.redis_server import RedisServer
from tests.support.service_process import PlainService
from tests.support.warm_service import run_service

pytestmark = [pytest.mark.e2e, pytest.mark.redis]

SECRET = "hunter2"


def check_settings(**settings: str) -> subprocess.CompletedProcess[str]:
    return run_service(settings, "--check-settings")


@pytest.mark.parametrize(
    ("variable", "url", "said"),
    [
        ("REDIS__URL", f"redis://:{SECRET}#{SECRET}@h/0", "write / as %2F, # as %23"),
        ("REDIS__URL", f"redis+sentinel://h/main?sentinel_pasword={SECRET}", "did you mean sentinel_password"),
        ("STREAMS__URL", f"redis+cluster://:{SECRET}/{SECRET}@h:7000", "write / as %2F"),
        ("STREAMS__URL", f"{SECRET}", "must begin with"),
    ],
)
def test_a_url_that_does_not_parse_is_refused_with_what_to_write(variable: str, url: str, said: str) -> None:
    done = check_settings(**{variable: url})
    assert done.returncode == 2
    assert done.stderr.startswith(f"service: RANKER_{variable}: ")
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert SECRET not in done.stdout + done.stderr


def test_a_url_is_shown_without_secrets_and_an_unsafe_one_is_warned_of() -> None:
    url = f"rediss://me:{SECRET}@h:6380/1?password={SECRET}&ssl_cert_reqs=none&ssl_password={SECRET}"
    done = check_settings(REDIS__URL=url, STREAMS__URL=url)
    assert done.returncode == 0
    assert "RANKER_REDIS__URL=rediss://***@h:6380/1\n" in done.stdout
    assert "RANKER_STREAMS__URL=rediss://***@h:6380/1\n" in done.stdout
    assert SECRET not in done.stdout + done.stderr
    for variable in ("REDIS__URL", "STREAMS__URL"):
        assert f"service: warning: RANKER_{variable}: ssl_cert_reqs=none" in done.stderr


@pytest.mark.slow
@pytest.mark.onnx
def test_a_running_service_logs_no_secret_whatever_redis_does(port_redis: RedisServer, tmp_path: Path) -> None:
    """Right password, wrong password, no server: errors of the driver name addresses."""
    port_redis.call("CONFIG", "SET", "requirepass", SECRET)
    url = f"redis://:{SECRET}@127.0.0.1:{port_redis.port}/0"
    service = PlainService(tmp_path, url, STREAMS__URL=f"redis://{SECRET}:wrong-{SECRET}@localhost:{port_redis.port}")
    try:
        service.start()
        for _ in range(2):
            answer = httpx.post(f"{service.url}/rank", json={"user_id": "u1", "candidates": ["i1"]}, timeout=20)
            assert answer.status_code == 200
            port_redis.kill()
        shown = httpx.get(f"{service.url}/info").text + httpx.get(f"{service.url}/metrics").text
        service.send(signal.SIGTERM)
        assert service.wait() == 0
        assert "stream_write" in service.log()
        assert SECRET not in service.log() + shown
    finally:
        service.close()
