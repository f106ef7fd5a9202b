"""The choice of requests to trace."""

from __future__ import annotations

import os

from service.tracing.sampling import Sampler, Trace

MANY = 1_000_000
TRACEPARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"


def test_a_caller_decides_for_its_own_requests() -> None:
    sampler = Sampler(0, MANY)
    chosen = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
    assert sampler.choose(TRACEPARENT + b"1", "r") == sampler.choose(TRACEPARENT + b"3", "r") == chosen
    assert Sampler(1, MANY).choose(TRACEPARENT + b"0", "r") is None


def test_a_share_of_the_others_is_traced_and_the_id_decides() -> None:
    sampler, ids = Sampler(0.25, MANY), [os.urandom(16).hex() for _ in range(4_000)]
    chosen = [sampler.choose(None, one) for one in ids]
    assert 800 < sum(trace is not None for trace in chosen) < 1_200
    assert [sampler.choose(None, one) for one in ids] == chosen
    assert {trace for trace in chosen if trace} <= {Trace(one, None) for one in ids}
    assert not any(Sampler(0, MANY).choose(None, one) for one in ids)


def test_a_request_id_of_another_form_gets_a_trace_id_of_its_own() -> None:
    sampler = Sampler(1, MANY)
    for given in ("checkout-7", "0" * 32, "A" * 32):
        trace = sampler.choose(None, given)
        assert trace is not None
        assert trace.trace_id != given
        assert int(trace.trace_id, 16)
        assert len(trace.trace_id) == 32


def test_not_more_are_traced_than_the_limit_of_a_second() -> None:
    left_out: list[int] = []
    sampler = Sampler(0, 10, lambda: left_out.append(1))
    taken = sum(sampler.choose(TRACEPARENT + b"1", "r") is not None for _ in range(1_000))
    assert taken + len(left_out) == 1_000
    assert 10 <= taken <= 30  # the second may change meanwhile
