"""The access file, and the keys whose hashes it has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from service.access.callers import Callers
from service.access.file import AccessFile, AccessFileError, Quota, read_access
from service.access.keys import hash_of, key_id, new_key
from service.access.quotas import Meter
from service.flow.gate import Gate

HASH = hash_of("rk_" + "a" * 43)


def caller(**fields: Any) -> dict[str, Any]:
    return {"id": "feed", "keys": [HASH], "scopes": ["rank"], **fields}


def read(*callers: dict[str, Any]) -> AccessFile:
    return read_access(json.dumps({"callers": callers}, indent=1).encode())


def test_a_key_is_256_random_bits_and_its_hash_is_read_back() -> None:
    key = new_key()
    assert re.fullmatch(r"rk_[A-Za-z0-9_-]{43}", key)
    assert key != new_key()
    file = read(caller(keys=[hash_of(key)]))
    callers = Callers(1.0, Gate(64))
    callers.put(file)
    found = callers.find(b"Bearer " + key.encode())
    assert found is not None
    assert found.caller.id == "feed"
    assert found.id == key_id(found.digest) == hash_of(key)[7:15]
    assert key not in repr(found)


@pytest.mark.parametrize(
    "header",
    [b"", b"Bearer", b"Bearer ", b"Basic %b", b"Bearer %b ", b"Bearer  %b", b"%b", b"Bearer %bx", b"Bearer rk_x"],
)
def test_only_a_bearer_with_a_whole_key_is_found(header: bytes) -> None:
    key = new_key()
    callers = Callers(1.0, Gate(64))
    callers.put(read(caller(keys=[hash_of(key)])))
    assert callers.find(b"bearer " + key.encode()) is not None  # the scheme's case does not matter
    assert callers.find(header.replace(b"%b", key.encode())) is None
    assert callers.find(b"Bearer " + hash_of(key).encode()) is None
    assert callers.find(b"Bearer " + key.swapcase().encode()) is None


def test_yaml_and_json_are_the_same() -> None:
    yaml = f"callers:\n  - id: feed\n    keys: ['{HASH}']\n    scopes: [rank]\n"
    assert read_access(yaml.encode()) == read(caller())


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"id": "Feed"}, "callers.0.id"),
        ({"id": "none of it"}, "callers.0.id"),
        ({"keys": []}, "callers.0.keys"),
        ({"keys": [HASH, hash_of("x"), hash_of("y")]}, "callers.0.keys"),
        ({"keys": ["rk_" + "a" * 43]}, "callers.0.keys.0"),
        ({"keys": [HASH.upper()]}, "callers.0.keys.0"),
        ({"keys": [HASH, HASH]}, "the key sha256:"),
        ({"scopes": []}, "callers.0.scopes"),
        ({"scopes": ["everything"]}, "callers.0.scopes.0"),
        ({"quota": {"requests_per_second": 0}}, "callers.0.quota.requests_per_second"),
        ({"quota": {"requests_per_second": float("inf")}}, "callers.0.quota.requests_per_second"),
        ({"quota": {"burst_seconds": 0}}, "callers.0.quota.burst_seconds"),
        ({"quota": {"request_per_second": 5}}, "callers.0.quota.request_per_second"),
        ({"key": HASH}, "callers.0.key"),
    ],
)
def test_a_caller_that_breaks_a_rule_is_refused_with_its_place(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(AccessFileError) as caught:
        read(caller(**fields))
    assert problem in caught.value.problems[0]
    assert problem.startswith("the key") or caught.value.problems[0].startswith("line ")
    assert "aaaaaaaaaaaaaaaa" not in str(caught.value)  # a key that was written in place of its hash is not logged


def test_a_caller_or_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(AccessFileError, match="caller feed is there twice"):
        read(caller(), caller(keys=[hash_of("x")]))
    with pytest.raises(AccessFileError, match=r"the key sha256:\w+\.\.\. is there twice"):
        read(caller(), caller(id="other"))


@pytest.mark.parametrize("content", [b"", b"[]", b"callers: []", b"callers: &a [*a]", b"\xff", b"{", b"x" * 300_000])
def test_what_is_no_access_file_is_refused(content: bytes) -> None:
    with pytest.raises(AccessFileError):
        read_access(content)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_quota_lets_a_burst_through_and_then_its_rate() -> None:
    clock = Clock()
    meter = Meter(Quota(requests_per_second=10, burst_seconds=2), clock=clock)
    for _ in range(20):
        assert meter.used_up() is None
        meter.count("requests")
    assert meter.used_up() == ("requests", 1)
    clock.now += 1
    for _ in range(10):
        assert meter.used_up() is None
        meter.count("requests")
    assert meter.used_up() == ("requests", 1)
    clock.now += 3600
    for _ in range(20):  # an hour of rest is worth no more than a burst
        assert meter.used_up() is None
        meter.count("requests")
    assert meter.used_up() is not None


def test_candidates_beyond_the_quota_are_a_debt_that_must_be_paid() -> None:
    clock = Clock()
    meter = Meter(Quota(candidates_per_second=100), clock=clock)
    meter.count("candidates", 600)
    assert meter.used_up() == ("candidates", 6)  # 500 of debt, and one more
    clock.now += 4.5
    assert meter.used_up() == ("candidates", 1)
    clock.now += 0.6
    assert meter.used_up() is None


def test_a_rate_below_one_still_lets_one_request_through() -> None:
    clock = Clock()
    meter = Meter(Quota(requests_per_second=0.1), clock=clock)
    assert meter.used_up() is None
    meter.count("requests")
    assert meter.used_up() == ("requests", 10)
    clock.now += 10
    assert meter.used_up() is None


def test_each_process_has_its_share() -> None:
    meter = Meter(Quota(requests_per_second=10), share=0.5, clock=Clock())
    assert meter.fields()[0] == (b"ratelimit-policy", b'"requests";q=5;w=1')


def test_a_caller_without_a_quota_has_no_limit_and_no_fields() -> None:
    meter = Meter(Quota(), clock=Clock())
    meter.count("requests", 10**9)
    assert (meter.used_up(), meter.fields()) == (None, [])


def test_an_edit_of_the_file_does_not_fill_a_quota_again() -> None:
    callers = Callers(1.0, Gate(64))
    quota = {"requests_per_second": 1}
    callers.put(read(caller(quota=quota)))
    key = callers.find(b"Bearer rk_" + b"a" * 43)
    assert key is not None
    key.caller.meter.count("requests")
    callers.put(read(caller(quota=quota, scopes=["write"]), caller(id="other", keys=[hash_of("x")])))
    again = callers.find(b"Bearer rk_" + b"a" * 43)
    assert again is not None
    assert again.caller.scopes == {"write"}
    assert again.caller.meter.used_up() is not None
    callers.put(read(caller(quota={"requests_per_second": 2})))
    assert again.caller.meter.used_up() is None  # a new quota begins full
