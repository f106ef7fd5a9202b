"""The page of the OpenAPI document: complete, safe to show, and without anything from another host."""

from __future__ import annotations

import base64
import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from service.http.api import openapi_json
from service.http.reference import page
from tests.support.fakes import Edge

pytestmark = pytest.mark.anyio

STATIC = Path(__file__).resolve().parents[4] / "service" / "page" / "static"
FETCHES = re.compile(r"""(?:\b(?:src|href|action|data|srcset)\s*=\s*["']?|url\(\s*["']?|@import\s+["'])([^"'\s)>]+)""")


def elsewhere(text: str) -> list[str]:
    """Return the addresses on other hosts that a browser would load or go to."""
    return [one for one in FETCHES.findall(text) if "//" in one]


@pytest.fixture(scope="module")
def edge() -> Edge:
    return Edge()


async def test_the_page_loads_nothing_and_its_policy_allows_its_style_only(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert elsewhere(answer.text) == []
    assert "<script" not in answer.text
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert "unsafe" not in policy


async def test_no_page_of_the_service_loads_anything_from_another_host(edge: Edge) -> None:
    assert elsewhere('<script src="https://cdn.example/x.js">') == ["https://cdn.example/x.js"]  # the check can fail
    for file in STATIC.glob("*.[hjc]*"):
        assert (file.name, elsewhere(file.read_text(encoding="utf-8"))) == (file.name, [])
    async with edge.client() as client:
        document = (await client.get("/openapi.json")).json()
    assert {server["url"].partition("//")[2].partition(":")[0] for server in document["servers"]} == {"localhost"}


def test_every_operation_field_and_status_is_on_the_page() -> None:
    document = json.loads(openapi_json())
    shown = page(document).decode()
    for operations in document["paths"].values():
        for operation in operations.values():
            assert f'id="{operation["operationId"]}"' in shown
    for name, schema in document["components"]["schemas"].items():
        article = shown.partition(f'id="type-{name}"')[2].partition("</article>")[0]
        assert [field for field in schema.get("properties", {}) if f"<code>{field}</code>" not in article] == []
    assert set(re.findall(r'href="#([^"]+)"', shown)) <= set(re.findall(r'id="([^"]+)"', shown))


def test_markup_in_the_document_is_shown_as_text() -> None:
    markup = "<img src=x onerror=alert(1)>"
    schema = {"description": markup, "properties": {markup: {"type": markup, "enum": [markup]}}}
    operation = {
        "operationId": markup,
        "description": f"{markup} `{markup}`",
        "parameters": [{"name": markup, "in": "query", "description": markup}],
        "responses": {"200": {"description": markup, "content": {"text/plain": {"example": markup}}}},
    }
    document = {
        "info": {"title": markup, "version": "1", "summary": markup},
        "paths": {f"/{markup}": {"get": operation}},
        "components": {"schemas": {markup: schema}},
    }
    assert "<img" not in page(document).decode()
