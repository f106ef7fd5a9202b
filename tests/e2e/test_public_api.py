"""The public description of the service (docs/openapi.json, docs/http-api.md) is true of a real one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.http.api import openapi_json
from service.http.examples import EXAMPLES
from tests.support.films import film_service_with_redis
from tests.support.service_process import ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.redis, pytest.mark.onnx]

FREE = {"parameters", "user", "items", "limits", "tracks"}  # objects whose names depend on the model or the settings
JSON = "application/json"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with film_service_with_redis(tmp_path_factory.mktemp("public")) as service:
        yield service


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url) as client:
        yield client


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(openapi_json())
    return found


def shape(value: Any, name: str = "") -> Any:
    """Return a value with the type of each part in its place; a list as the different shapes in it."""
    if isinstance(value, dict):
        return "object" if name in FREE else {key: shape(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return sorted({json.dumps(shape(part), sort_keys=True) for part in value})
    return "number" if type(value) in (int, float) else type(value).__name__


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_example_gets_the_answer_that_is_printed_beside_it(
    client: httpx.Client, document: dict[str, Any]
) -> None:
    client.post("/behaviours", json={"behaviours": [{"user_id": "42", "item_id": "100", "ts": 1_700_000_000_000}]})
    for method, path, operation in operations(document):
        for name, example in EXAMPLES.get(operation["operationId"], {}).items():
            answer = client.request(method, path.replace("{user_id}", "42"), json=example.request)
            status = "202" if "202" in operation["responses"] else "200"
            where = f"{operation['operationId']}: {name}"
            assert str(answer.status_code) == status, (where, answer.text)
            assert shape(answer.json()) == shape(example.response), where
            described = {header.lower() for header in operation["responses"][status]["headers"]}
            assert set(answer.headers) - described <= {"content-type", "content-length"}, where


def test_only_rankings_that_users_see_leave_exposures(client: httpx.Client, service: ServiceProcess) -> None:
    """Other users than those of the examples: an exposure is written once an hour."""
    rankings = [{"user_id": f"mail-{number}", "candidates": ["50", "181"]} for number in range(20)]
    written = service.metric("ranker_exposures_total")
    ranked = service.metric("ranker_rankings_total")
    for shown in (False, True):
        answer = client.post("/rank/batch", json={"rankings": rankings, "shown": shown})
        assert [result["status"] for result in answer.json()["results"]] == [200] * 20
        assert service.metric("ranker_exposures_total") - written == 20 * shown
    assert service.metric("ranker_rankings_total") - ranked == 40


def test_a_path_with_the_prefix_of_the_version_is_the_same_route(client: httpx.Client) -> None:
    body = {"user_id": "42", "candidates": ["50", "181"]}
    for _ in range(2):  # the second time, the head is known
        answers = [client.post(path, json=body) for path in ("/rank", "/v1/rank")]
        assert answers[0].json()["items"] == answers[1].json()["items"]
    assert client.get("/v1/health/ready").status_code == 200


def test_an_error_is_as_described(client: httpx.Client, document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if "requestBody" not in operation:
            continue
        for content, status in ((b"{", "400"), (b"{}", "422"), (b" " * 2_000_000, "413")):
            answer = client.request(method, path, content=content, headers={"content-type": JSON})
            assert str(answer.status_code) == status, path
            error = answer.json()["error"]
            described = operation["responses"][status]["content"][JSON]["examples"]
            assert set(error) - {"field", "details"} == set(described[error["code"]]["value"]["error"])
