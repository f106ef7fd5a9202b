"""The OpenAPI document is enough to build a client from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from service import errors
from service.errors import RankerError
from service.http import answers, requests
from service.http.api import openapi_json
from service.http.examples import EXAMPLES

RESPONSES = {
    name: one for name, one in vars(answers).items() if isinstance(one, type) and issubclass(one, answers.Answer)
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(openapi_json())
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_operation_has_an_id_of_its_own_that_names_a_method(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert all(one.isidentifier() and one.islower() for one in ids)
    assert set(EXAMPLES) | {"get_metrics"} == set(ids)


def test_every_operation_with_a_body_has_a_whole_example_and_the_answer_to_it(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        success = "202" if "202" in operation["responses"] else "200"
        content = operation["responses"][success]["content"]
        if "text/plain" in content:
            assert content["text/plain"]["example"]
            continue
        answered = content["application/json"]["examples"]
        assert answered, name
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"].keys() == answered.keys(), name


def test_examples_are_as_their_schemas_say(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        if "requestBody" in operation:
            _check(operation["requestBody"]["content"], requests, name)
        for response in operation["responses"].values():
            _check(response["content"], answers, name)


def _check(content: dict[str, Any], module: Any, name: str) -> None:
    for body in [content[JSON]] if (JSON := "application/json") in content else []:
        model = getattr(module, body["schema"]["$ref"].rpartition("/")[2])
        for example in body["examples"].values():
            assert model.model_validate_json(json.dumps(example["value"])), name


def test_every_error_code_is_described_with_an_example_where_it_can_happen(document: dict[str, Any]) -> None:
    kinds = {(str(one.status), one.code) for one in vars(errors).values() if _is_kind(one)}
    described = {
        (status, code)
        for _, operation in operations(document)
        for status, response in operation["responses"].items()
        if int(status) >= 400
        for code in response["content"]["application/json"]["examples"]
    }
    # no operation of the document has another path or method
    assert kinds - described == {("404", "not_found"), ("405", "method_not_allowed")}
    assert described <= kinds


def _is_kind(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, RankerError) and one is not RankerError


def test_answers_are_open_to_fields_and_names_of_later_versions(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in RESPONSES.keys() & schemas.keys():
        text = json.dumps(schemas[name])
        assert '"additionalProperties": false' not in text, name
        assert '"enum"' not in text, name
        assert '"const"' not in text, name
    assert schemas["RankRequest"]["additionalProperties"] is False
    assert "popularity" in schemas["RankResponse"]["properties"]["degraded"]["items"]["x-extensible-enum"]


def test_times_do_not_fit_into_32_bits_and_say_so(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["UserBehaviour"]["properties"]["ts"]["format"] == "int64"
    assert schemas["RankedItem"]["properties"]["score"]["anyOf"][0] == {"type": "number", "format": "double"}


def test_a_header_is_described_on_every_answer_that_has_it(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            assert {"X-Request-Id", "X-AB-Bucket", "X-AB-Config"} <= response["headers"].keys(), name
            assert ("Retry-After" in response["headers"]) == (status in {"429", "503"}), name
    rank = document["paths"]["/rank"]["post"]
    assert {"X-Model", "Server-Timing", "Cache-Control"} <= rank["responses"]["200"]["headers"].keys()
    assert {"X-Deadline-Ms", "X-AB-Override"} <= {one["name"] for one in rank["parameters"]}
