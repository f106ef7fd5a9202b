"""Redis URLs: the options of each kind; a refusal explains the correction and shows no part of the URL."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.redis_url.address import RedisUrlError
from contract.redis_url.options import OPTIONS
from contract.redis_url.parse import SCHEMES, parse_redis_url

SECRET = "hunter2"
WHERE = {"unix": "/run/redis.sock", "sentinel": "h:1,[::1]:2/main/3", "cluster": "h:1,h2:7000", "redis": "h:1/3"}
VALUES: dict[str, tuple[str, Any]] = {
    "username": ("me", "me"),
    "password": ("p%40ss", "p@ss"),
    "db": ("3", 3),
    "socket_keepalive": ("no", False),
    "ssl_ca_certs": ("/etc/ca.pem", "/etc/ca.pem"),
    "ssl_ca_path": ("/etc/certs", "/etc/certs"),
    "ssl_ca_data": ("PEM", "PEM"),
    "ssl_certfile": ("cert.pem", "cert.pem"),
    "ssl_keyfile": ("key.pem", "key.pem"),
    "ssl_password": ("pw", "pw"),
    "ssl_cert_reqs": ("none", "none"),
    "ssl_check_hostname": ("False", False),
    "ssl_min_version": ("TLSv1.3", ssl.TLSVersion.TLSv1_3),
    "ssl_ciphers": ("HIGH", "HIGH"),
    "ssl_include_verify_flags": ("VERIFY_X509_STRICT", [ssl.VerifyFlags.VERIFY_X509_STRICT]),
    "ssl_exclude_verify_flags": (
        "VERIFY_X509_STRICT,VERIFY_X509_PARTIAL_CHAIN",
        [ssl.VerifyFlags.VERIFY_X509_STRICT, ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN],
    ),
    "sentinel_username": ("asker", "asker"),
    "sentinel_password": ("pw", "pw"),
    "sentinel_ssl": ("yes", True),
}
WRONG = {
    "db": ["x", "-1", "1.5", ""],
    "socket_keepalive": ["maybe", ""],
    "ssl_cert_reqs": ["CERT_NONE", "off"],
    "ssl_check_hostname": ["None", "2"],
    "ssl_min_version": ["1.1", "tls"],
    "ssl_include_verify_flags": ["VERIFY_ALL"],
    "ssl_ca_certs": [""],
    "sentinel_ssl": ["sure"],
}


def kind(scheme: str) -> str:
    return scheme.rpartition("+")[2].replace("rediss", "redis")


def base(scheme: str) -> str:
    return f"{scheme}://{WHERE[kind(scheme)]}"


@pytest.mark.parametrize(("scheme", "name"), [(scheme, name) for scheme in SCHEMES for name in OPTIONS[scheme]])
def test_every_option_of_the_table_is_read_as_its_type(scheme: str, name: str) -> None:
    text, value = VALUES[name]
    address = parse_redis_url(f"{base(scheme)}?{name}={text}")
    if name == "db":
        assert address.database == value
    elif name.startswith("sentinel_"):
        assert address.sentinel_options == {name.removeprefix("sentinel_"): value}
    else:
        assert address.options == {name: value}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts])
def test_a_value_of_another_type_is_refused_by_the_name_of_its_option(name: str, text: str) -> None:
    scheme = next(one for one in reversed(SCHEMES) if name in OPTIONS[one])
    with pytest.raises(RedisUrlError, match=f"option {name} must be ") as caught:
        parse_redis_url(f"{base(scheme)}?{name}={text}")
    assert not text or f"be {text}" not in str(caught.value)


def test_each_kind_is_read() -> None:
    address = parse_redis_url("rediss+sentinel://me:p%2Fw@h1,h2:7,[::1]/main/2")
    assert address.hosts == (("h1", 26379), ("h2", 7), ("::1", 26379))
    assert (address.kind, address.service, address.database, address.is_encrypted) == ("sentinel", "main", 2, True)
    assert address.options == {"username": "me", "password": "p/w"}
    assert str(address) == "rediss+sentinel://***@h1:26379,h2:7,[::1]:26379/main/2"
    assert parse_redis_url("redis://").hosts == (("localhost", 6379),)
    assert parse_redis_url("redis+cluster://h1,h2:7000/").hosts == (("h1", 6379), ("h2", 7000))
    assert parse_redis_url("unix://:pw@/run/a%40b.sock?db=1").path == "/run/a@b.sock"
    assert parse_redis_url("redis://:p:w@h").options == {"password": "p:w"}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("character", [*"/#?@%", " ", "\n"])
def test_a_password_that_is_not_escaped_is_refused_with_what_to_write(scheme: str, character: str) -> None:
    places = WHERE[kind(scheme)]
    with pytest.raises(RedisUrlError, match=r"write|escaped") as caught:
        parse_redis_url(f"{scheme}://me:{SECRET}{character}{SECRET}@{places}")
    assert SECRET not in str(caught.value)
    address = parse_redis_url(f"{scheme}://me:{quote(SECRET + character, safe='')}@{places}")
    assert address.options["password"] == SECRET + character


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/0?sock_keepalive=1", "did you mean socket_keepalive"),
        (f"redis://h/0?{SECRET}", "option 1 of the URL is unknown"),
        ("redis://h/0?socket_timeout=5", "RANKER_REDIS__READ_TIMEOUT_MS"),
        ("redis://h/0?decode_responses=true", "has no effect"),
        ("redis://h/0?ssl_ca_certs=/x", "does not fit redis://"),
        ("redis+cluster://h?db=1", "option db does not fit"),
        ("redis+cluster://h/1", "database 0 only"),
        ("redis://h/one", "the database must be a number"),
        ("redis://h/0/1", "the database must be a number"),
        ("redis://h/-1", "the database must be a number"),
        ("redis://h/1?db=2", "they differ"),
        ("redis://h/0?db=1&db=1", "given twice"),
        ("redis://h/0#1", "'#' is not allowed"),
        ("redis://h:port/0", "1 to 65535"),
        ("redis://h:0/0", "1 to 65535"),
        ("redis://h:65536/0", "1 to 65535"),
        ("redis://h1,h2/0", "one host"),
        ("redis+sentinel://h", "name of the service"),
        ("redis+cluster://", "no host"),
        ("unix://run/redis.sock", "unix:///absolute/path"),
        ("unix://", "unix:///absolute/path"),
        ("REDIS://h", "must begin with"),
        ("http://h", "must begin with"),
        (f"{SECRET}", "must begin with"),
        ("", "must begin with"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(url: str, said: str) -> None:
    with pytest.raises(RedisUrlError, match=said) as caught:
        parse_redis_url(url)
    assert SECRET not in str(caught.value)


@given(st.text(min_size=6, max_size=30), st.sampled_from(SCHEMES), st.sampled_from(["login", "option", "place"]))
def test_no_secret_of_any_form_is_printed(secret: str, scheme: str, where: str) -> None:
    """A refusal shows nothing of the secret; a URL that parses has it as it was meant, and does not show it."""
    secret = f"~{secret}~"  # so that it is found only where it was repeated
    places = WHERE[kind(scheme)]
    escaped = quote(secret, safe="") if where != "place" else secret
    url = {
        "login": f"{scheme}://me:{escaped}@{places}",
        "option": f"{scheme}://{places}?password={escaped}",
        "place": f"{scheme}://me:{secret}@{places}",
    }[where]
    said, password = outcome(url)
    assert secret not in said
    assert where == "place" or password == secret


def outcome(url: str) -> tuple[str, str | None]:
    """Return all that is ever printed of a URL, and the password that was read from it."""
    try:
        address = parse_redis_url(url)
    except RedisUrlError as error:
        return str(error), None
    return str(address) + repr(address), address.options["password"]


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("rediss://h?ssl_cert_reqs=none", ["ssl_cert_reqs=none"]),
        ("rediss+cluster://h?ssl_check_hostname=0", ["ssl_check_hostname=false"]),
        ("rediss+sentinel://h/main", ["Sentinels are asked without TLS"]),
        ("rediss+sentinel://h/main?sentinel_ssl=false", []),
        ("redis+sentinel://h/main?sentinel_ssl=true&ssl_cert_reqs=none", ["ssl_cert_reqs=none"]),
        ("rediss://h", []),
        ("redis://h", []),
    ],
)
def test_what_is_unsafe_is_warned_of(url: str, warns: list[str]) -> None:
    found = parse_redis_url(url).warnings
    assert [warning.startswith(start) for warning, start in zip(found, warns, strict=True)] == [True] * len(warns)
