"""The page's link to a report of an experiment, and the route that shows it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Response

from service.errors import RankerError
from service.page.report import MAX_BYTES
from service.page.routes import page_router

pytestmark = pytest.mark.anyio


async def served_with(report: Path | None, path: str) -> httpx.Response:
    app = FastAPI()
    app.include_router(page_router(lambda _: pytest.fail("no source is needed"), report))
    app.add_exception_handler(RankerError, lambda _, error: Response(error.body("r"), error.status))  # type: ignore[arg-type, attr-defined]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://page") as client:
        return await client.get(path)


async def test_page_links_to_the_report_only_if_a_setting_names_one(tmp_path: Path) -> None:
    assert b"page/report" in (await served_with(tmp_path / "report.html", "/")).content
    without = await served_with(None, "/")
    assert b"page/report" not in without.content
    assert b"<!-- report -->" not in without.content
    assert (await served_with(None, "/page/report")).status_code == 404


async def test_report_is_read_again_and_shown_without_scripts(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    for text in ("<h1>one</h1>", "<h1>two</h1>"):
        file.write_text(text)
        answer = await served_with(file, "/page/report")
        assert (answer.status_code, answer.text) == (200, text)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "sandbox" in policy
        assert "script" not in policy


@pytest.mark.parametrize("content", [None, b"x" * (MAX_BYTES + 1)], ids=["missing", "too large"])
async def test_no_report_is_not_found_and_names_no_path(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "report.html"
    if content is not None:
        file.write_bytes(content)
    answer = await served_with(file, "/page/report")
    assert answer.status_code == 404
    assert str(tmp_path) not in answer.text


@pytest.mark.parametrize("path", ["/page/report/", "/page/report/../x", "/page/report?file=/etc/passwd"])
async def test_only_the_named_file_is_served(tmp_path: Path, path: str) -> None:
    (tmp_path / "report.html").write_text("the report")
    (tmp_path / "x").write_text("another file")
    answer = await served_with(tmp_path / "report.html", path)
    assert answer.text == "the report" or answer.status_code in (307, 404)
