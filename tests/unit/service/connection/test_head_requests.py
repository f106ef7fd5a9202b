"""HEAD wherever GET is: the same status and headers, and no body."""

from __future__ import annotations

import pytest

from service.settings.http import HttpSettings
from service.settings.page import PageSettings
from service.settings.root import Settings
from tests.support.fakes import Edge
from tests.support.ports import HOST, LIVE, check_refusal, serving
from tests.support.raw_http import RawAnswer

pytestmark = pytest.mark.anyio

CHANGING = {b"x-request-id"}
GETS = [
    b"/health/live", b"/health/ready", b"/info", b"/docs", b"/openapi.json", b"/behaviours/u1", b"/nothing",
    b"/info?a=b", b"http://other/info",
]  # fmt: skip


def head(target: bytes, *lines: bytes) -> bytes:
    return b"HEAD " + target + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def steady(answer: RawAnswer | None) -> list[tuple[bytes, bytes]]:
    assert answer is not None
    return [(name, value) for name, value in answer.headers if name not in CHANGING]


@pytest.fixture(scope="module")
def edge() -> Edge:
    return Edge(Settings(http=HttpSettings(behaviours_enabled=True), page=PageSettings(enabled=True)))


@pytest.mark.parametrize("target", GETS)
async def test_head_has_the_headers_of_get_and_no_body(edge: Edge, target: bytes) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(head(target).replace(b"HEAD", b"GET"))
        got = await connection.answer()
        connection.send(head(target))
        asked = await connection.answer(has_body=False)
        assert got is not None
        assert asked is not None
        assert asked.status == got.status
        if target not in (b"/nothing",):  # an error contains its request id, so only its own headers
            assert steady(asked) == steady(got)
        assert int(asked.header(b"content-length")[0]) == len(got.body) > 0
        connection.send(LIVE)  # the next answer begins where the head ended
        last = await connection.answer()
        assert last is not None
        assert last.status == 200
        await connection.close()


async def test_metrics_have_a_head(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(head(b"/metrics") + LIVE)
        asked, last = await connection.answer(has_body=False), await connection.answer()
        assert asked is not None
        assert last is not None
        assert (asked.status, last.status) == (200, 200)
        assert int(asked.header(b"content-length")[0]) > 1_000
        await connection.close()


@pytest.mark.parametrize("target", [b"/rank", b"/behaviours", b"/feedback"])
async def test_a_route_without_get_has_no_head(edge: Edge, target: bytes) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(head(target) + LIVE)
        refused, last = await connection.answer(has_body=False), await connection.answer()
        assert refused is not None
        assert last is not None
        assert (refused.status, refused.header(b"allow"), last.status) == (405, [b"POST"], 200)
        await connection.close()


async def test_a_route_with_get_allows_head_too(edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.delete("/info")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(("lines", "status"), [((b"Transfer-Encoding: gzip",), 501), ((b"X: y",) * 100, 431)])
async def test_a_refusal_of_head_has_no_body_either(edge: Edge, lines: tuple[bytes, ...], status: int) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(head(b"/info", *lines))
        answer = await connection.answer(has_body=False)
        assert answer is not None
        assert answer.status == status
        assert await connection.ends()
        await connection.close()


async def test_what_follows_a_head_is_refused_with_a_body(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(head(b"/info") + b"GARBAGE\r\n\r\n")
        assert await connection.answer(has_body=False) is not None
        check_refusal(await connection.answer(), 400)
        await connection.close()
