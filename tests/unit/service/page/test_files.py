"""The files of the page: strict policy, no other host, no markup made of text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.served_page import Served

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/page/app.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
async def test_every_file_is_served_under_a_strict_policy(served: Served, path: str, media: str) -> None:
    answer = await served.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["cache-control"] == "no-store"


def test_files_name_no_other_host_and_make_no_markup_from_text() -> None:
    folder = Path(__file__).resolve().parents[4] / "service" / "page" / "static"
    script = (folder / "app.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|srcdoc", script)
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
        assert not re.search(r"https?://|\burl\(|@import", text), path
    assert " style=" not in (folder / "index.html").read_text(encoding="utf-8")


async def test_routes_of_the_page_are_not_in_the_openapi_document(served: Served) -> None:
    assert served.app.openapi()["paths"] == {}
