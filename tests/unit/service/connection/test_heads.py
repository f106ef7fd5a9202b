"""A known head is read without a parser, with the parser's result."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.connection.heads import KnownHeads

LINES = [b"Host: ranker", b"content-type: application/json", b"X-Deadline-Ms: 50"]
OWN = st.sampled_from([
    b"x-request-id: abc", b"X-Request-Id: a-b", b"X-Request-Id:a", b"x-request-id:  a", b"x-request-id: a ",
    b"x-request-id: a b", b"x-request-id: \xff", b"x-request-id: a\x01", b"x-request-id:", b"traceparent: 00-ab-cd-01",
    b"Traceparent: 1", b"x-request-idx: 1", b"content-length: 3", b"transfer-encoding: chunked", b"x: x-request-id: 1",
    b" folded: 1", b"x: y\nx-request-id: 1",
])  # fmt: skip


class Parsed:
    """The parser's result for bytes: the complete requests."""

    def __init__(self, data: bytes) -> None:
        self.whole: list[tuple[bytes, list[tuple[bytes, bytes]], bytes]] = []
        try:
            httptools.HttpRequestParser(self).feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.whole = []

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", list[tuple[bytes, bytes]](), b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.whole.append((self._url, self._headers, self._body))


def request(lines: list[bytes], body: bytes = b"{}") -> bytes:
    head = [b"POST /rank HTTP/1.1", *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def knowing(*lines: bytes, max_lines: int = 64) -> KnownHeads:
    """Heads after one request with these lines."""
    heads = KnownHeads(max_lines)
    data = request([*LINES, *lines])
    [(_, headers, _)] = Parsed(data).whole
    heads.note(data, headers, 0.05)
    return heads


@given(st.lists(OWN, max_size=3), st.permutations(LINES), st.binary(max_size=4), st.booleans())
@settings(max_examples=2 * settings.default.max_examples)
@example([b"x-request-id: abc", b"traceparent: 00-ab-cd-01"], LINES, b"[]", True)
def test_what_is_found_is_what_the_parser_finds(own: list[bytes], lines: list[bytes], body: bytes, first: bool) -> None:
    data = request([*own, *lines] if first else [*lines, *own], body)
    for heads in (knowing(), knowing(b"x-request-id: first"), knowing(b"x-request-id: 1", b"traceparent: 2")):
        found = heads.find(data)
        if found is not None:
            [(url, headers, parsed)] = Parsed(data).whole
            assert url == b"/rank"
            assert sorted(found.headers) == sorted(headers)
            assert data[found.body_at :] == parsed


@pytest.mark.parametrize("known", [(), (b"X-Request-Id: 1",), (b"traceparent: 1", b"x-request-id: 2")])
@pytest.mark.parametrize("own", [(), (b"x-request-id: 3",), (b"x-request-id: 3", b"traceparent: 4")])
def test_an_id_and_a_trace_make_no_head_unknown(known: tuple[bytes, ...], own: tuple[bytes, ...]) -> None:
    found = knowing(*known).find(request([*LINES, *own], b"[]"))
    assert found is not None
    assert [value for name, value in found.headers if name in {b"x-request-id", b"traceparent"}] == [
        line.partition(b": ")[2] for line in own
    ]


@given(st.integers(0, 200), st.integers(0, 3), st.sampled_from([b"", b"\r\n", b"\n", b" ", b"\x00", b"a", b":", b"0"]))
def test_damaged_bytes_are_left_to_the_parser(place: int, cut: int, piece: bytes) -> None:
    data = bytearray(request([*LINES, b"x-request-id: abc"]))
    data[place : place + cut] = piece
    found = knowing().find(bytes(data))
    if found is not None:
        assert sorted(found.headers) == sorted(Parsed(bytes(data)).whole[0][1])


def test_only_whole_requests_are_found() -> None:
    heads, data = knowing(), request(LINES)
    for other in (data[:-1], data + b"x", data + data, b"\r\n" + data, data[5:], b""):
        assert heads.find(other) is None
    assert heads.find(data) is not None


def test_only_the_beginning_of_a_request_is_remembered() -> None:
    """Else the rest of a head that came in two parts would count as a head of its own, without what came before."""
    heads, data = KnownHeads(64), request([b"X: POST /rank HTTP/1.1", *LINES])
    [(_, headers, _)] = Parsed(data).whole
    heads.note(data[data.index(b"Host") :], headers, 0.05)
    assert heads.find(data[data.index(b"Host") :]) is None


def test_a_ranking_under_the_prefix_of_the_version_is_remembered_too() -> None:
    heads, data = KnownHeads(64), request(LINES).replace(b"/rank", b"/v1/rank")
    [(_, headers, _)] = Parsed(data).whole
    heads.note(data, headers, 1.0)
    assert heads.find(data) is not None
    assert heads.find(request(LINES)) is None


def test_ids_count_as_header_lines() -> None:
    assert knowing(max_lines=4).find(request(LINES)) is not None
    assert knowing(max_lines=4).find(request([*LINES, b"x-request-id: a"])) is None


def test_long_heads_are_not_remembered_and_the_number_of_heads_is_bounded() -> None:
    assert knowing(b"x: " + b"y" * 2_000).find(request([*LINES, b"x: " + b"y" * 2_000])) is None
    heads = KnownHeads(64)
    for number in range(10_000):
        data = request([*LINES, b"x: %d" % number])
        heads.note(data, [(b"x", b"%d" % number), (b"content-length", b"2")], 0.05)
    assert len(heads._known) <= 4_096
    assert heads.find(data) is not None
