from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.connection.exchange import Exchange
from service.errors import Overloaded
from service.http.endings import Endings
from service.http.prepared import PreparedRefusal
from tests.support.fakes import Edge


@pytest.fixture(scope="module")
def endings() -> Endings:
    edge = Edge()
    return Endings(edge.runtime, edge.metrics, edge.settings)


@given(
    st.text("abcXYZ019._:+/=@-", min_size=1, max_size=128),
    st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
def test_a_prepared_refusal_has_the_headers_and_the_body_of_any_other(
    endings: Endings, request_id: str, traceparent: str | None
) -> None:
    exchange = Exchange([], 0.0)
    exchange.request_id, exchange.is_ranking = request_id, True
    exchange.traceparent = traceparent.encode() if traceparent else None
    headers, body = endings.refusal(Overloaded(), request_id)
    lines = [b"%b: %b\r\n" % header for header in [*headers, *endings.headers(exchange)]]
    prepared = PreparedRefusal(Overloaded(), endings).answer(request_id.encode(), exchange.traceparent)
    assert prepared == b"HTTP/1.1 429 Too Many Requests\r\n" + b"".join(lines) + b"\r\n" + body
