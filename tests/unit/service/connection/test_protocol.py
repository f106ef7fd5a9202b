"""Raw bytes on a socket: what is a request, what is refused, and how."""

from __future__ import annotations

import pytest

from tests.support.fakes import Edge
from tests.support.ports import BODY, HOST, LIVE, check_refusal, chunked, post, probe, serving

pytestmark = pytest.mark.anyio

MALFORMED: dict[str, tuple[bytes, int]] = {
    "no HTTP at all": (b"GARBAGE\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/3.7": (b"GET / HTTP/3.7\r\n" + HOST + b"\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 400),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
    "Redis": (b"*1\r\n$4\r\nPING\r\n", 400),
    "lower case method": (b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "unknown method": (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no Host": (b"GET /info HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /info HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "authority target": (b"CONNECT edge:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "asterisk target of another method": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute target of another scheme": (b"GET ftp://edge/info HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute target without a host": (b"GET http:///info HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute target with a user": (b"GET http://me:secret@edge/info HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute target with a port that is none": (b"GET http://edge:x/info HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "absolute target, but no Host": (b"GET http://edge/info HTTP/1.1\r\n\r\n", 400),
    "absolute target, two Hosts": (b"GET http://edge/info HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "absolute target of 5 KiB": (b"GET http://edge/" + b"a" * 5_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "no target": (b"GET  HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "blank in target": (b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "NUL in target": (b"GET /a\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "raw UTF-8 in target": ("GET /é HTTP/1.1\r\n".encode() + HOST + b"\r\n", 400),
    "NUL in a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
    "0x01 in a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x01b\r\n\r\n", 400),
    "DEL in a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\x7fb\r\n\r\n", 400),
    "bare CR in a header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400),
    "blank before the colon": (b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", 400),
    "header without a name": (b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", 400),
    "header without a colon": (b"GET / HTTP/1.1\r\n" + HOST + b"Xa\r\n\r\n", 400),
    "folded header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "blank first header": (b"GET / HTTP/1.1\r\n " + HOST + b"\r\n", 400),
    "length and chunks": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    "chunks and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    "two lengths": (post(b"Content-Length: 36", b"Content-Length: 37"), 400),
    "two equal lengths": (post(b"Content-Length: 36", b"Content-Length: 36"), 400),
    "list of lengths": (post(b"Content-Length: 36, 36"), 400),
    "negative length": (post(b"Content-Length: -1"), 400),
    "signed length": (post(b"Content-Length: +36"), 400),
    "hexadecimal length": (post(b"Content-Length: 0x24"), 400),
    "length with a blank": (post(b"Content-Length: 3 6"), 400),
    "empty length": (post(b"Content-Length: "), 400),
    "length beyond 64 bits": (post(b"Content-Length: 99999999999999999999"), 400),
    "unknown transfer encoding": (post(b"Transfer-Encoding: gzip"), 501),
    "gzip in chunks": (post(b"Transfer-Encoding: gzip, chunked", body=chunked(BODY)), 501),
    "gzip in chunks, in two lines": (
        post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=chunked(BODY)),
        501,
    ),
    "identity": (post(b"Transfer-Encoding: identity"), 501),
    "chunked with a parameter": (post(b"Transfer-Encoding: chunked;q=1", body=chunked(BODY)), 501),
    "chunked twice in one line": (post(b"Transfer-Encoding: chunked, chunked", body=chunked(BODY)), 400),
    "unknown transfer encoding and a length": (post(b"Transfer-Encoding: gzip", b"Content-Length: 36"), 400),
    "transfer encoding in HTTP/1.0": (
        post(b"Transfer-Encoding: chunked", body=chunked(BODY)).replace(b"HTTP/1.1", b"HTTP/1.0"),
        400,
    ),
    "empty transfer encoding": (post(b"Transfer-Encoding: "), 400),
    "chunked not last": (post(b"Transfer-Encoding: chunked, gzip"), 400),
    "chunked look-alike": (post(b"Transfer-Encoding: xchunked"), 501),
    "chunked twice": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=chunked(BODY)), 400),
    "chunk size no number": (post(b"Transfer-Encoding: chunked", body=b"zz\r\nab\r\n0\r\n\r\n"), 400),
    "chunk size negative": (post(b"Transfer-Encoding: chunked", body=b"-1\r\nab\r\n0\r\n\r\n"), 400),
    "chunk size beyond 64 bits": (post(b"Transfer-Encoding: chunked", body=b"fffffffffffffffff\r\n"), 400),
    "chunk without its end": (post(b"Transfer-Encoding: chunked", body=b"2\r\nabX0\r\n\r\n"), 400),
    "target of 5 KiB": (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 431),
    "65 header lines": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 64 + b"\r\n", 431),
    "20,000 header lines": (b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 20_000 + b"\r\n", 431),
    "a header of 64 KiB": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 65_536 + b"\r\n\r\n", 431),
    "a header of 8 MiB": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 2**23 + b"\r\n\r\n", 431),
    "a header name of 64 KiB": (b"GET / HTTP/1.1\r\n" + HOST + b"a" * 65_536 + b": x\r\n\r\n", 431),
    "headers without an end": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 20_000, 431),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_bytes_that_are_no_request_are_refused_and_the_connection_closed(edge: Edge, name: str) -> None:
    data, status = MALFORMED[name]
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(data)
        answer = await connection.answer()
        check_refusal(answer, status)
        assert await connection.ends()
        await connection.close()
        assert (await probe(port)).status == 200


SERVED: dict[str, tuple[bytes, list[int]]] = {
    "plain": (post(), [200]),
    "line breaks before the request": (b"\r\n\r\n" + LIVE, [200]),
    "chunks": (post(b"Transfer-Encoding: chunked", body=chunked(BODY[:7], BODY[7:])), [200]),
    "chunk extensions": (post(b"Transfer-Encoding: chunked", body=b"24;a=b\r\n" + BODY + b"\r\n0\r\n\r\n"), [200]),
    "trailers": (post(b"Transfer-Encoding: chunked", body=b"24\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n"), [200]),
    "one byte a chunk": (post(b"Transfer-Encoding: chunked", body=chunked(*map(bytes, zip(BODY)))), [200]),
    "obs-text in a header": (b"GET /info HTTP/1.1\r\n" + HOST + b"X-Request-Id: \xff\xfe\r\n\r\n", [200]),
    "tab in a header": (b"GET /info HTTP/1.1\r\n" + HOST + b"X-Request-Id: a\tb\r\n\r\n", [200]),
    "empty header": (b"GET /info HTTP/1.1\r\n" + HOST + b"X-Request-Id:\r\n\r\n", [200]),
    "percent-encoded line break": (b"GET /info%0d%0aX-Evil:1 HTTP/1.1\r\n" + HOST + b"\r\n", [404]),
    "query and fragment": (b"GET /info?a=b#c HTTP/1.1\r\n" + HOST + b"\r\n", [200]),
    "upgrade to h2c": (post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"), [200]),
    "upgrade to WebSocket": (
        b"GET /info HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
        [200],
    ),
    "two requests in one segment": (LIVE + post(), [200, 200]),
    "a request behind an upgrade": (post(b"Connection: Upgrade", b"Upgrade: h2c") + LIVE, [200, 200]),
    "a hundred requests in one segment": (LIVE * 100, [200] * 100),
    "64 header lines": (b"GET /info HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 63 + b"\r\n", [200]),
    "headers of 16,000 bytes": (b"GET /info HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 16_000 + b"\r\n\r\n", [200]),
    "body on a GET": (b"GET /info HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc", [200]),
    "absolute target": (b"GET http://edge/info HTTP/1.1\r\n" + HOST + b"\r\n", [200]),
    "absolute target of https": (b"GET https://edge:8443/info?a=b#c HTTP/1.1\r\n" + HOST + b"\r\n", [200]),
    "absolute target in capitals": (b"GET HTTP://EDGE/info HTTP/1.1\r\n" + HOST + b"\r\n", [200]),
    "absolute target, IPv6": (b"GET http://[::1]:80/info HTTP/1.1\r\n" + HOST + b"\r\n", [200]),
    "absolute target of a ranking": (post().replace(b"/rank", b"http://other/rank"), [200]),
    "absolute target with a slash at its end": (b"GET http://edge/info/ HTTP/1.1\r\n" + HOST + b"\r\n", [404]),
    "absolute target without a path": (b"GET http://edge HTTP/1.1\r\n" + HOST + b"\r\n", [404]),
    "absolute target, a query and no path": (b"GET http://edge?a HTTP/1.1\r\n" + HOST + b"\r\n", [404]),
    "absolute target and an upgrade": (
        post(b"Connection: Upgrade", b"Upgrade: h2c").replace(b"/rank", b"http://other/rank"), [200]
    ),
    "options of the server": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", [204]),
    "options of the server by its address": (b"OPTIONS http://edge HTTP/1.1\r\n" + HOST + b"\r\n", [204]),
    "options of a route": (b"OPTIONS /rank HTTP/1.1\r\n" + HOST + b"\r\n", [405]),
    "TRACE": (b"TRACE /info HTTP/1.1\r\n" + HOST + b"\r\n", [405]),
    "refused by its type, body and all": (
        b"POST /rank HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
        [415],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVED)
async def test_unusual_requests_are_served_in_order_over_a_connection_that_stays(edge: Edge, name: str) -> None:
    data, statuses = SERVED[name]
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(data)
        answers = [await connection.answer() for _ in statuses]
        assert [answer.status for answer in answers if answer is not None] == statuses
        assert all(len(answer.header(b"x-ab-bucket")) == 1 for answer in answers if answer is not None)
        connection.send(LIVE)
        last = await connection.answer()
        assert last is not None
        assert last.status == 200
        await connection.close()


@pytest.mark.parametrize("lines", [b"", b"Connection: keep-alive\r\n"])
async def test_http_1_0_is_answered_and_closed(edge: Edge, lines: bytes) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(b"GET /info HTTP/1.0\r\n" + lines + b"\r\n")
        answer = await connection.answer()
        assert answer is not None
        assert answer.status == 200
        assert await connection.ends()
        await connection.close()


async def test_an_answer_under_way_goes_before_the_refusal_of_what_follows(edge: Edge) -> None:
    async with serving(edge) as port:
        connection = await port.connect()
        connection.send(LIVE + b"GARBAGE\r\n\r\n")
        first, second = await connection.answer(), await connection.answer()
        assert first is not None
        assert first.status == 200
        check_refusal(second, 400)
        assert await connection.ends()
        await connection.close()
