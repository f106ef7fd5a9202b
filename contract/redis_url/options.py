"""The options of a Redis URL: a table of those that each kind of URL may have, and the type of each."""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from contract.redis_url.address import ESCAPES, RedisUrlError

Parse = Callable[[str], object]

_TRUE: Final = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "off", "0"})


def _text(text: str) -> str:
    if not text:
        raise ValueError("a text that is not empty")
    return text


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("a number, as in 0")
    return int(text)


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return text.lower() in _TRUE


def _requirement(text: str) -> str:
    if text not in ("required", "optional", "none"):
        raise ValueError("required, optional or none")
    return text


def _version(text: str) -> ssl.TLSVersion:
    known = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    known |= {str(int(version)): version for version in known.values()}
    if text.removeprefix("TLSv") not in known:
        raise ValueError("1.2 or 1.3")
    return known[text.removeprefix("TLSv")]


def _flags(text: str) -> list[ssl.VerifyFlags]:
    names = [name.strip() for name in text.strip("[]").split(",")]
    if not set(names) <= set(ssl.VerifyFlags.__members__):
        raise ValueError("names of ssl.VerifyFlags with commas between, as in VERIFY_X509_STRICT")
    return [ssl.VerifyFlags[name] for name in names]


_LOGIN: Final[dict[str, Parse]] = {"username": _text, "password": _text}
_DATABASE: Final[dict[str, Parse]] = {"db": _number}
_NETWORK: Final[dict[str, Parse]] = {"socket_keepalive": _truth}
_TLS: Final[dict[str, Parse]] = {
    "ssl_ca_certs": _text,
    "ssl_ca_path": _text,
    "ssl_ca_data": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
    "ssl_password": _text,
    "ssl_cert_reqs": _requirement,
    "ssl_check_hostname": _truth,
    "ssl_min_version": _version,
    "ssl_ciphers": _text,
    "ssl_include_verify_flags": _flags,
    "ssl_exclude_verify_flags": _flags,
}
_ASK: Final[dict[str, Parse]] = {"sentinel_username": _text, "sentinel_password": _text, "sentinel_ssl": _truth}

OPTIONS: Final[dict[str, dict[str, Parse]]] = {
    "redis": _LOGIN | _DATABASE | _NETWORK,
    "rediss": _LOGIN | _DATABASE | _NETWORK | _TLS,
    "unix": _LOGIN | _DATABASE,
    "redis+sentinel": _LOGIN | _DATABASE | _NETWORK | _ASK | _TLS,  # TLS for the Sentinels
    "rediss+sentinel": _LOGIN | _DATABASE | _NETWORK | _ASK | _TLS,
    "redis+cluster": _LOGIN | _NETWORK,
    "rediss+cluster": _LOGIN | _NETWORK | _TLS,
}

# Options of redis-py that the service decides, with what to do instead.
_DECIDED: Final = {
    "socket_timeout": "set RANKER_REDIS__READ_TIMEOUT_MS and RANKER_REDIS__WRITE_TIMEOUT_MS",
    "socket_connect_timeout": "set RANKER_REDIS__READ_TIMEOUT_MS and RANKER_REDIS__WRITE_TIMEOUT_MS",
    "timeout": "set RANKER_REDIS__READ_TIMEOUT_MS and RANKER_REDIS__WRITE_TIMEOUT_MS",
    "max_connections": "set RANKER_REDIS__MAX_CONNECTIONS",
} | dict.fromkeys(
    ("client_name", "decode_responses", "protocol", "health_check_interval", "retry_on_timeout", "legacy_responses",
     "socket_read_size", "encoding", "encoding_errors"),
    "the service decides it",
)  # fmt: skip


def parse_options(scheme: str, query: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of connections to servers, and of those to Sentinels."""
    found: dict[str, Any] = {}
    for place, part in enumerate(query.split("&") if query else [], start=1):
        name, _, text = part.partition("=")
        parse = OPTIONS[scheme].get(name)
        if parse is None:
            raise RedisUrlError(_unknown(scheme, name, place))
        if name in found:
            raise RedisUrlError(f"option {name} is given twice")
        try:
            found[name] = parse(unquote(text))
        except ValueError as error:
            raise RedisUrlError(f"option {name} must be {error}") from None
    servers = {name: value for name, value in found.items() if not name.startswith("sentinel_")}
    sentinels = {name.removeprefix("sentinel_"): value for name, value in found.items() if name not in servers}
    return servers, sentinels


def _unknown(scheme: str, name: str, place: int) -> str:
    """Say what is wrong with an option; an unknown name is not repeated, as it may be part of a password."""
    allowed = OPTIONS[scheme]
    if name in _DECIDED:
        return f"option {name} has no effect, remove it: {_DECIDED[name]}"
    if any(name in options for options in OPTIONS.values()):
        return f"option {name} does not fit {scheme}://; allowed are {', '.join(allowed)}"
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"option {place} of the URL is unknown; {hint}Allowed are {', '.join(allowed)}; {ESCAPES}"
