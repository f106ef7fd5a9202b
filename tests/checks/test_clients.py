"""`make client-check`: clients that two generators make of the OpenAPI document call the live service.

openapi-python-client and openapi-generator (its jar and a Java runtime are packages of `.checks`) each make a Python
client, which calls every operation. The Go client of openapi-generator is compiled with Debian's Go and its
validator.v2, and calls every operation too. A Java client is generated and not compiled: Debian does not have all of
its libraries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.http.api import openapi_json
from service.http.examples import EXAMPLES
from tests.support.films import film_service_with_redis
from tests.support.programs import needed
from tests.support.service_process import ServiceProcess

HERE = Path(__file__).resolve().parent
GO_PACKAGES = Path("/usr/share/gocode")  # of Debian
BIN = HERE.parents[1] / ".checks" / "bin"

pytestmark = [pytest.mark.checks, pytest.mark.redis, pytest.mark.timeout(300)]

OPERATIONS = {*EXAMPLES, "get_metrics"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with film_service_with_redis(tmp_path_factory.mktemp("service")) as service:
        yield service


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(openapi_json(), encoding="utf-8")
    return path


def run(*command: str | Path, **environment: str) -> str:
    """Return what a command printed; it fails if the command does."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def openapi_generator(document: Path, language: str, *options: str) -> Path:
    out = document.parent / language
    run(BIN / "openapi-generator-cli", "generate", "-i", document, "-g", language, "-o", out, *options)
    return out


def check_calls(program: str, package: Path, service: ServiceProcess) -> None:
    """Run a program with the package, which prints the operations that it called and got an answer from."""
    called = run(sys.executable, HERE / "callers" / program, service.url, PYTHONPATH=str(package))
    assert set(json.loads(called)) == OPERATIONS


def test_the_client_of_openapi_python_client_calls_every_operation(document: Path, service: ServiceProcess) -> None:
    out = document.parent / "first" / "first_client"
    out.parent.mkdir()
    run(BIN / "openapi-python-client", "generate", "--path", document, "--output-path", out, "--meta", "none")
    check_calls("first.py", out.parent, service)


def test_the_client_of_openapi_generator_calls_every_operation(document: Path, service: ServiceProcess) -> None:
    out = openapi_generator(document, "python", "--package-name", "second_client")
    check_calls("second.py", out, service)


def test_the_go_client_of_openapi_generator_calls_every_operation(document: Path, service: ServiceProcess) -> None:
    go = needed("go", "golang-go")
    if not (GO_PACKAGES / "src" / "gopkg.in" / "validator.v2").exists():
        needed("validator.v2 of Go", "golang-gopkg-validator.v2-dev")
    out = openapi_generator(document, "go", "--additional-properties", "packageName=ranker")
    sources, program = document.parent / "gopath" / "src", document.parent / "calls"
    sources.mkdir(parents=True)
    (sources / "ranker").symlink_to(out)
    places = f"{sources.parent}:{GO_PACKAGES}"
    run(go, "build", "-o", program, HERE / "callers" / "calls.go", GO111MODULE="off", GOPATH=places)
    assert set(json.loads(run(program, service.url))) == OPERATIONS


def test_a_java_client_is_generated(document: Path) -> None:
    out = openapi_generator(document, "java")
    made = "\n".join(path.read_text(encoding="utf-8") for path in out.rglob("*.java"))
    for operation in OPERATIONS:
        first, *rest = operation.split("_")
        assert f"{first}{''.join(part.capitalize() for part in rest)}".lower() in made.lower(), operation
    assert "Long" in made
