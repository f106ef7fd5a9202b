from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.experiments.assignment import snapshot_of
from contract.experiments.decision import UNDECIDED, Decision
from service.connection.exchange import Exchange
from service.errors import Overloaded
from service.http import rank_answer
from service.http.endings import Endings
from service.http.prepared import PreparedAnswer, PreparedRefusal
from service.ranking.answer import Explanation, MovedBy, Ranking
from service.settings.experiments import ExperimentsSettings
from service.settings.http import HttpSettings
from service.settings.root import Settings
from tests.support.experiment_files import NOW_MS, example
from tests.support.fakes import Edge

REQUEST_IDS = st.text("abcXYZ019._:+/=@-", min_size=1, max_size=128)
TRACES = st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
SNAPSHOT = snapshot_of(example())
EXPLANATION = Explanation(
    read=1, recent=0, corrupt=0, used=1, truncated=0, unread_behaviours=0, unknown_behaviours=0, unknown_candidates=0,
    state_cached=True, user={}, items={"%b": [1]},
)  # fmt: skip
RANKINGS = st.builds(
    Ranking,
    item_ids=st.just(["%b", "i2"]),
    scores=st.just([1.5, -0.25]),
    known=st.just([True, True]),
    model=st.sampled_from(["mgnm", "100%b"]),
    version=st.sampled_from(["7", "%d"]),
    degraded=st.sampled_from([(), ("popularity",), ("store_unavailable", "popularity")]),
    timings=st.sampled_from([{"store": 0.0006, "total": 0.0029}, {"total": 1.0}]),
    explanation=st.sampled_from([None, EXPLANATION]),
    moved=st.sampled_from([None, MovedBy(("calm", "fresh%b"), [3, 0], {"calm": 1, "fresh%b": 1})]),
)
DECISIONS = st.builds(SNAPSHOT.decide, st.integers(0, 60).map(str), st.just({"platform": "ios"}), st.just(NOW_MS))


@pytest.fixture(scope="module")
def endings() -> Endings:
    edge = Edge()
    return Endings(edge.runtime, edge.metrics, edge.settings)


@given(REQUEST_IDS, TRACES)
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


@pytest.mark.parametrize("show_bucket", [True, False])
@pytest.mark.parametrize("origins", [[], ["*"], ["https://feed.example"]])
def test_a_prepared_answer_has_the_bytes_of_any_other(show_bucket: bool, origins: list[str]) -> None:
    shown = ExperimentsSettings(show_bucket=show_bucket)
    edge = Edge(Settings(http=HttpSettings(cors_origins=origins), experiments=shown))
    endings = Endings(edge.runtime, edge.metrics, edge.settings)
    prepared = PreparedAnswer(endings, show_bucket)

    @given(REQUEST_IDS, TRACES, DECISIONS | st.just(UNDECIDED), RANKINGS)
    def check(request_id: str, traceparent: str | None, decision: Decision, ranking: Ranking) -> None:
        exchange = Exchange([], 0.0)
        exchange.request_id, exchange.is_ranking, exchange.decision = request_id, True, decision
        exchange.traceparent = traceparent.encode() if traceparent else None
        answered = prepared.answer(exchange, decision, ranking)
        exchange.headers = rank_answer.rank_headers(ranking)
        body = rank_answer.rank_body(request_id, ranking, decision.parameters)
        headers = [*rank_answer.body_headers(len(body)), *endings.headers(exchange)]
        lines = [b"%b: %b\r\n" % header for header in headers]
        assert answered == b"HTTP/1.1 200 OK\r\n" + b"".join(lines) + b"\r\n" + body

    check()
