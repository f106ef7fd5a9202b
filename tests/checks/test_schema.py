"""`make schema-check`: schemathesis sends the live service what the OpenAPI document allows and what it forbids.

Every check of schemathesis is on (tests/checks/schemathesis.toml, and what JSON Schema cannot express: hooks.py). By
default so many requests of each operation are sent, the same in every run, so that a change of the service is the only
reason to fail. `make schema-check SCHEMA_SECONDS=3600` searches for an hour, from the seed SCHEMA_SEED.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from service.http.api import openapi_json
from tests.support.films import film_service
from tests.support.redis_server import RedisServer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCHEMATHESIS = ROOT / ".checks" / "bin" / "schemathesis"
SECONDS = int(os.environ.get("SCHEMA_SECONDS", "0"))
SEED = os.environ.get("SCHEMA_SEED", "20261126")
EXAMPLES = 200  # of each operation
LEAST_CASES = 500  # on a slow machine too

pytestmark = [pytest.mark.checks, pytest.mark.redis, pytest.mark.timeout(SECONDS + 600)]


def test_requests_of_the_schema_and_against_it_get_what_the_document_says(tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(openapi_json(), encoding="utf-8")
    redis = RedisServer().start()
    service = film_service(tmp_path, redis.url)
    try:
        report = attack(service.start().url, document)
        print(report)
        assert service.metric("ranker_requests_total", status="500") == 0
    finally:
        service.close()
        redis.close()
    generated = re.search(r"(\d+) generated", report)
    assert generated is not None
    assert int(generated[1]) >= LEAST_CASES


def attack(url: str, document: Path) -> str:
    """Return the report of schemathesis; it fails if a check does."""
    bound = ("--max-examples", "100000", "--max-time", str(SECONDS)) if SECONDS else ("--max-examples", str(EXAMPLES))
    command = [
        str(SCHEMATHESIS), "--config-file", str(HERE / "schemathesis.toml"), "--no-color", "run", str(document),
        "--url", url, "--mode", "all", "--seed", SEED, *bound,
    ]  # fmt: skip
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=document.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
