"""HTTP itself: targets, methods, framing, several requests on one connection, bytes that are not HTTP."""

from __future__ import annotations

from collections.abc import Iterator

from tests.e2e.corpus.case import AWAIT, GOOD, HOST, JSON, Case, Piece, chunked, get, post, raw

_LENGTH = f"content-length: {len(GOOD)}\r\n"
_LINE = "POST /rank HTTP/1.1\r\n"
BAD = '{"user_id":"u1"}'


def cases() -> Iterator[Case]:
    """Return all cases of this file."""
    yield from _targets()
    yield from _methods()
    yield from _framing()
    yield from _several()
    yield from _expect()
    yield from _malformed()
    yield from _limits()


def _targets() -> Iterator[Case]:
    for target in (
        "/rank/", "/rank?x=1", "/rank?", "/%72ank", "/ran%6B", "/rank%20", "/rank%2f", "//rank", "/./rank", "/a/../rank", "/Rank", "/rank;x", "/rank#x",
        "/rank\x80", "/%ff", "/%zz", "/rank%00", "/ra nk", "http://ranker/rank", "HTTP://other:80/rank?x", "https://ranker/rank", "http://a@ranker/rank",
        "ftp://ranker/rank", "http:///rank", "http://ranker", "rank", "*", "", "/" + "x" * 200, raw("/ränk"), "/rank\t",
    ):  # fmt: skip
        yield Case(f"POST {target!a}", post(GOOD, path=target))
    yield Case("GET http://ranker/rank", get("http://ranker/rank"))
    yield Case("CONNECT", get("ranker:80", method="CONNECT"))
    yield Case("OPTIONS *", get("*", method="OPTIONS"))
    yield Case("OPTIONS http://ranker", get("http://ranker", method="OPTIONS"))


def _methods() -> Iterator[Case]:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        yield Case(f"{method} /rank", get("/rank", method=method))
    yield Case("HEAD /rank", get("/rank", method="HEAD"), bodyless=(0,))
    for method in ("PUT", "GET", "PATCH", "post", "Post", "POSTS", "RANK", "PRI", "GE T", ""):
        yield Case(f"{method!r} /rank with a body", post(GOOD, method=method))
    yield Case("HEAD /rank with a body", post(GOOD, method="HEAD"), bodyless=(0,))
    yield Case("GET /rank with a large body", post((" ", 1_048_577), method="GET"))
    preflight = "origin: https://feed.example\r\naccess-control-request-method: POST\r\n"
    yield Case("preflight, without CORS", get("/rank", method="OPTIONS", headers=preflight))


def _framing() -> Iterator[Case]:
    def of(headers: str, *body: Piece, line: str = _LINE, host: str = HOST) -> tuple[Piece, ...]:
        return (f"{line}{host}{JSON}{headers}\r\n", *body)

    half = len(GOOD) // 2
    yield Case("chunked", chunked(GOOD))
    yield Case("chunked, in three", chunked(GOOD[:5], GOOD[5:9], GOOD[9:]))
    yield Case("chunked, a byte each", chunked(*GOOD))
    yield Case("chunked, with trailers", chunked(GOOD, end="0\r\nx-request-id: of-a-trailer\r\n\r\n"))
    yield Case(
        "chunked, with extensions", of("transfer-encoding: chunked\r\n", f"{len(GOOD):X};a=b\r\n{GOOD}\r\n0\r\n\r\n")
    )
    yield Case("chunked, bad JSON", chunked("{"))
    yield Case("chunked, empty", chunked())
    yield Case("chunked, over the limit", chunked((" ", 600_000), (" ", 600_000)))
    yield Case("chunked, over the limit, and more", chunked((" ", 1_048_577), (" ", 1_000_000), GOOD))
    yield Case("chunked, in capitals", of("Transfer-Encoding: CHUNKED\r\n", f"{len(GOOD):x}\r\n{GOOD}\r\n0\r\n\r\n"))
    for name, chunks in {
        "bad size": f"zz\r\n{GOOD}\r\n0\r\n\r\n", "negative size": f"-1\r\n{GOOD}\r\n0\r\n\r\n", "huge size": "fffffffffffffffff\r\n",
        "size too small": f"5\r\n{GOOD}\r\n0\r\n\r\n", "bare line feeds": f"{len(GOOD):x}\n{GOOD}\n0\n\n", "blank before the size": f" {len(GOOD):x}\r\n{GOOD}\r\n0\r\n\r\n",
    }.items():  # fmt: skip
        yield Case(f"chunked, {name}", of("transfer-encoding: chunked\r\n", chunks))
    for coding in ("gzip", "gzip, chunked", "chunked, gzip", "identity", "chunked, chunked", "xchunked", ""):
        yield Case(f"Transfer-Encoding {coding!r}", of(f"transfer-encoding: {coding}\r\n", "0\r\n\r\n"))
    yield Case(
        "Transfer-Encoding twice", of("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n")
    )
    yield Case("smuggling: CL then TE", of(f"{_LENGTH}transfer-encoding: chunked\r\n", "0\r\n\r\n"))
    yield Case("smuggling: TE then CL", of(f"transfer-encoding: chunked\r\n{_LENGTH}", "0\r\n\r\n"))
    yield Case("smuggling: two lengths", of(f"{_LENGTH}content-length: 5\r\n", GOOD))
    yield Case("smuggling: two equal lengths", of(_LENGTH * 2, GOOD))
    yield Case("smuggling: a list of lengths", of(f"content-length: {len(GOOD)}, {len(GOOD)}\r\n", GOOD))
    yield Case("smuggling: TE with a blank before the colon", of(f"{_LENGTH}transfer-encoding : chunked\r\n", GOOD))
    yield Case("smuggling: TE on a folded line", of(f"{_LENGTH}x: y\r\n transfer-encoding: chunked\r\n", GOOD))
    yield Case("smuggling: TE with a vertical tab", of(f"{_LENGTH}transfer-encoding: \x0bchunked\r\n", GOOD))
    yield Case(
        "smuggling: chunked and HTTP/1.0",
        of("transfer-encoding: chunked\r\n", "0\r\n\r\n", line="POST /rank HTTP/1.0\r\n"),
    )
    for length in ("-1", "+5", "0x10", "1e3", "", "abc", "99999999999999999999", "5 5", "1048577", "007"):
        yield Case(f"Content-Length {length!r}", of(f"content-length: {length}\r\n", "x" * 7))
    yield Case("no Content-Length", of(""))
    yield Case("no Content-Length and a body", of("", GOOD))
    yield Case("body over the limit, declared, all there", post((" ", 1_048_577)))
    yield Case("body over the limit, declared, none there", of("content-length: 1048577\r\n"))
    yield Case("body far over the limit", post((" ", 5_000_000)))
    yield Case("body cut off", of(_LENGTH, GOOD[:half]), ends=True)
    yield Case("body cut off, after a good request", (*post(GOOD), *of(_LENGTH, GOOD[:half])), requests=2, ends=True)
    yield Case("chunks cut off", of("transfer-encoding: chunked\r\n", f"{len(GOOD):x}\r\n{GOOD}\r\n"), ends=True)
    yield Case("headers cut off", (f"{_LINE}{HOST}conte",), ends=True)
    yield Case("nothing", (), ends=True)
    yield Case("sending side shut down", post(GOOD), ends=True)
    yield Case("HTTP/1.0", of(_LENGTH, GOOD, line="POST /rank HTTP/1.0\r\n"))
    yield Case("HTTP/1.0, no Host", of(_LENGTH, GOOD, line="POST /rank HTTP/1.0\r\n", host=""))
    yield Case("HTTP/1.0, keep-alive", of(f"{_LENGTH}connection: keep-alive\r\n", GOOD, line="POST /rank HTTP/1.0\r\n"))
    for version in ("HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1", "http/1.1", "HTTP/1.1 ", "HTTP/11", "HTTPS/1.1", ""):
        yield Case(f"version {version!r}", of(_LENGTH, GOOD, line=f"POST /rank {version}\r\n"))
    for name, host in {
        "no Host": "", "two Hosts": HOST * 2, "an empty Host": "host:\r\n", "a Host with a port": "host: ranker:8000\r\n", "a Host in UTF-8": raw("host: ränker\r\n"),
        "a Host with a blank": "host: a b\r\n", "Host in capitals": "HOST: ranker\r\n", "a Host with a user": "host: a@ranker\r\n",
    }.items():  # fmt: skip
        yield Case(name, of(_LENGTH, GOOD, host=host))
    yield Case("absolute target, no Host", of(_LENGTH, GOOD, line="POST http://ranker/rank HTTP/1.1\r\n", host=""))
    yield Case("absolute target, another Host", of(_LENGTH, GOOD, line="POST http://other/rank HTTP/1.1\r\n"))


def _several() -> Iterator[Case]:
    good, bad, health = post(GOOD), post(BAD), get("/health/live")
    close = post(GOOD, headers=f"{JSON}connection: close\r\n")
    yield Case("good, good", (*good, *good), requests=2)
    yield Case("good, bad, good", (*good, *bad, *good), requests=3)
    yield Case("bad, good, not found, good", (*bad, *good, *get("/none"), *good), requests=4)
    yield Case("ten good ones", good * 10, requests=10)
    yield Case(
        "ten users in order",
        tuple(piece for number in range(10) for piece in post(f'{{"user_id":"u{number}","candidates":["i1","i2"]}}')),
        requests=10,
    )
    yield Case("health between rankings", (*good, *health, *good), requests=3)
    yield Case("close in the middle", (*good, *close, *good), requests=3)
    yield Case("malformed after good", (*good, "NONSENSE\r\n\r\n"), requests=2)
    yield Case("good after malformed", ("NONSENSE\r\n\r\n", *good), requests=2)
    yield Case("too large after good", (*good, *post((" ", 1_048_577)), *good), requests=3)
    yield Case("HEAD between", (*good, *get("/health/live", method="HEAD"), *good), requests=3, bodyless=(1,))
    yield Case("chunked, then good", (*chunked(GOOD), *good), requests=2)
    yield Case("good, then a line feed, then good", (*good, "\r\n", *good), requests=2)
    yield Case(
        "behaviours, then ranking",
        (
            *post('{"behaviours":[{"user_id":"piped","item_id":"i5","ts":1700000000000}]}', path="/behaviours"),
            *post('{"user_id":"piped","candidates":["i1"],"explain":true}'),
        ),
        requests=2,
    )
    yield Case("several, then shut down", (*good, *bad, *good), requests=3, ends=True)
    yield Case("unread body before good", (*post(GOOD, path="/none"), *good), requests=2)
    yield Case("415, then good", (*post(GOOD, headers=""), *good), requests=2)


def _expect() -> Iterator[Case]:
    expect = f"{_LINE}{HOST}{JSON}expect: 100-continue\r\n"
    yield Case("Expect: 100-continue", (f"{expect}{_LENGTH}\r\n", AWAIT, GOOD))
    yield Case(
        "Expect: 100-continue, chunked",
        (f"{expect}transfer-encoding: chunked\r\n\r\n", AWAIT, f"{len(GOOD):x}\r\n{GOOD}\r\n0\r\n\r\n"),
    )
    yield Case("Expect: 100-continue, too large", (f"{expect}content-length: 1048577\r\n\r\n",))
    yield Case("Expect: 100-continue, wrong type", (f"{_LINE}{HOST}expect: 100-continue\r\n{_LENGTH}\r\n", AWAIT, GOOD))
    yield Case(
        "Expect: 100-continue, no such route",
        (f"POST /none HTTP/1.1\r\n{HOST}expect: 100-continue\r\ncontent-length: 0\r\n\r\n",),
    )
    yield Case(
        "Expect: 100-continue, HTTP/1.0",
        (f"POST /rank HTTP/1.0\r\n{HOST}{JSON}expect: 100-continue\r\n{_LENGTH}\r\n{GOOD}",),
    )
    yield Case("Expect: something else", (f"{_LINE}{HOST}{JSON}expect: 200-ok\r\n{_LENGTH}\r\n{GOOD}",))


def _malformed() -> Iterator[Case]:
    for name, text in {
        "one word": "NONSENSE\r\n\r\n", "a ranking's body": GOOD, "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 64, "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "NUL": "\0" * 10, "bare line feeds": f"POST /rank HTTP/1.1\nhost: ranker\ncontent-type: application/json\n{_LENGTH[:-2]}\n\n{GOOD}", "bare carriage returns": "GET /info HTTP/1.1\rhost: a\r\r",
        "line feeds before": f"\r\n\r\n{_LINE}{HOST}{JSON}{_LENGTH}\r\n{GOOD}", "a blank before": f" {_LINE}{HOST}\r\n", "two blanks in the line": f"POST  /rank  HTTP/1.1\r\n{HOST}{JSON}{_LENGTH}\r\n{GOOD}",
        "a header without a colon": f"{_LINE}{HOST}nonsense\r\n\r\n", "a header without a name": f"{_LINE}{HOST}: x\r\n\r\n", "a blank in a header's name": f"{_LINE}{HOST}a b: c\r\n\r\n",
        "a NUL in a header": f"{_LINE}{HOST}a: b\0c\r\n\r\n", "a bare CR in a header": f"{_LINE}{HOST}a: b\rc\r\n\r\n", "a control character in a header": f"{_LINE}{HOST}a: b\x01c\r\n\r\n",
        "UTF-8 in a header's name": raw(f"{_LINE}{HOST}ä: b\r\n\r\n"), "a folded header": f"{_LINE}{HOST}{JSON}{_LENGTH}x: a\r\n b\r\n\r\n{GOOD}",
    }.items():  # fmt: skip
        yield Case(f"malformed: {name}", (text,))


def _limits() -> Iterator[Case]:
    lines = "".join(f"x-{number}: y\r\n" for number in range(62))
    yield Case("64 header lines", (f"{_LINE}{HOST}{_LENGTH}{lines}\r\n{GOOD}",))
    yield Case("65 header lines", (f"{_LINE}{HOST}{_LENGTH}{lines}z: y\r\n\r\n{GOOD}",))
    yield Case("a target of 4,096 bytes", ("GET /", ("x", 4_095), f" HTTP/1.1\r\n{HOST}\r\n"))
    yield Case("a target of 4,097 bytes", ("GET /", ("x", 4_096), f" HTTP/1.1\r\n{HOST}\r\n"))
    yield Case("a target of 20,000 bytes", ("GET /", ("x", 20_000), f" HTTP/1.1\r\n{HOST}\r\n"))
    yield Case("a header of 15,000 bytes", (f"{_LINE}{HOST}{JSON}{_LENGTH}x: ", ("y", 15_000), f"\r\n\r\n{GOOD}"))
    yield Case("a header of 17,000 bytes", (f"{_LINE}{HOST}{JSON}{_LENGTH}x: ", ("y", 17_000), f"\r\n\r\n{GOOD}"))
    yield Case("a header of 1,000,000 bytes", (f"{_LINE}{HOST}x: ", ("y", 1_000_000), "\r\n\r\n"))
    yield Case(
        "headers too large after good", (*post(GOOD), f"{_LINE}{HOST}x: ", ("y", 17_000), f"\r\n\r\n{GOOD}"), requests=2
    )
    yield Case(
        "HEAD with headers too large", (f"HEAD /rank HTTP/1.1\r\n{HOST}x: ", ("y", 17_000), "\r\n\r\n"), bodyless=(0,)
    )
