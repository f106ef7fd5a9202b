"""From a Redis URL to an address.

A URL usually contains a password, and one that does not parse may contain it anywhere. An error therefore explains
what to write and never repeats any part of the URL. A URL that parsed is printed without its credentials and options.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

from contract.redis_url.address import ESCAPES, RedisAddress, RedisUrlError, kind_of
from contract.redis_url.options import parse_options

SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_PORTS: Final = {"sentinel": 26379}
_DEFAULT_PORT: Final = 6379
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.]+)?\]|[\w.-]+)(?::(?P<port>\d{1,5}))?")


def parse_redis_url(url: str) -> RedisAddress:
    """Return the address that a URL names.

    Args:
        url: `redis[s]://[user:password@]host[:port][/database]`, `unix://[user:password@]/path`,
            `redis[s]+sentinel://[user:password@]host[:port],.../service[/database]` or
            `redis[s]+cluster://[user:password@]host[:port],...`, each with `?option=value&...` of options.py.

    Raises:
        RedisUrlError: malformed, or with an unknown option or a value that does not fit.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise RedisUrlError(f"the URL must begin with one of {', '.join(f'{one}://' for one in SCHEMES)}")
    _check_characters(rest)
    before_query, _, query = rest.partition("?")
    authority, slash, path = before_query.partition("/")
    login, at, places = authority.rpartition("@")
    options, sentinel_options = parse_options(scheme, query)
    parts = _PATHS[kind_of(scheme)](places, slash + path)
    database = parts.pop("database", 0)
    if "db" in options and database not in (0, options["db"]):
        raise RedisUrlError("the database is in the path and in option db, and they differ: keep one")
    return RedisAddress(
        scheme=scheme,
        database=options.pop("db", database),
        options={**options, **_credentials(login)},
        sentinel_options=sentinel_options,
        has_login=bool(at),
        **parts,
    )


def _check_characters(rest: str) -> None:
    """Refuse what a parser would cut at the wrong place, above all in a password that was not escaped."""
    if "#" in rest:
        raise RedisUrlError(f"'#' is not allowed: {ESCAPES}")
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    if rest.count("@") > 1 or "@" in rest[len(authority) :]:
        raise RedisUrlError(f"'@' is allowed once, before the host: {ESCAPES}")
    if rest.count("?") > 1:
        raise RedisUrlError(f"'?' is allowed once, before the options: {ESCAPES}")
    if re.search(r"%(?![0-9A-Fa-f]{2})", re.sub(r"\[[^]]*\]", "", rest)):
        raise RedisUrlError("'%' must be followed by two hexadecimal digits: write a plain % as %25")
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise RedisUrlError("blanks and control characters must be escaped: write a blank as %20")


def _credentials(login: str) -> dict[str, str]:
    user, _, password = login.partition(":")
    named = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in named.items() if value}


def _single(places: str, path: str) -> dict[str, Any]:
    hosts = _hosts(places or "localhost", _DEFAULT_PORT)
    if len(hosts) > 1:
        raise RedisUrlError(
            "one host is expected; several belong to redis+sentinel:// or redis+cluster://, and a comma in a password "
            "is written as it is, before the @"
        )
    return {"hosts": hosts, "database": _database(path.removeprefix("/"))}


def _socket(places: str, path: str) -> dict[str, Any]:
    if places or len(path) < 2:
        raise RedisUrlError("a Unix socket is written as unix:///absolute/path")
    return {"path": unquote(path)}


def _sentinel(places: str, path: str) -> dict[str, Any]:
    service, _, database = path.removeprefix("/").partition("/")
    if not service:
        raise RedisUrlError("a Sentinel URL ends in the name of the service: redis+sentinel://host:port/service")
    hosts = _hosts(places, _PORTS["sentinel"])
    return {"hosts": hosts, "service": unquote(service), "database": _database(database)}


def _cluster(places: str, path: str) -> dict[str, Any]:
    if path.strip("/") not in ("", "0"):
        raise RedisUrlError("a Cluster has database 0 only: leave the path out")
    return {"hosts": _hosts(places, _DEFAULT_PORT)}


_PATHS: Final[dict[str, Callable[[str, str], dict[str, Any]]]] = {
    "redis": _single,
    "unix": _socket,
    "sentinel": _sentinel,
    "cluster": _cluster,
}


def _hosts(places: str, default_port: int) -> tuple[tuple[str, int], ...]:
    hosts = tuple(_host(place, default_port) for place in places.split(",") if place)
    if not hosts:
        raise RedisUrlError("the URL names no host")
    return hosts


def _host(place: str, default_port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(place)
    port = int(match["port"] or default_port) if match else 0
    if match is None or not 0 < port < 65_536:
        raise RedisUrlError(f"a host is written as name:port, with a port of 1 to 65535; {ESCAPES}")
    return match["host"].strip("[]"), port


def _database(text: str) -> int:
    text = text.removesuffix("/")
    if text and not re.fullmatch(r"[0-9]{1,9}", text):
        raise RedisUrlError(f"the database must be a number, as in /0; {ESCAPES}")
    return int(text or 0)
