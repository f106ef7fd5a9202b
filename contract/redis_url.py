"""Redis addresses: the one parser of Redis URLs, with a table of the options that each kind of URL may have.

A URL usually contains a password, and one that does not parse may contain it anywhere. An error therefore explains
what to write and never repeats any part of the URL. A URL that parsed is printed without its credentials and options.
"""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

Parse = Callable[[str], object]

SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
ESCAPES: Final = "in a user name or password write / as %2F, # as %23, ? as %3F and @ as %40"
_PORTS: Final = {"sentinel": 26379}
_DEFAULT_PORT: Final = 6379
_HOST: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.]+)?\]|[\w.-]+)(?::(?P<port>\d{1,5}))?")
_TRUE: Final = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "off", "0"})


class RedisUrlError(ValueError):
    """The Redis URL cannot be used; the message explains the correction and repeats no part of the URL."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is, and how to log in."""

    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()  # empty for a Unix socket
    path: str = ""  # of the Unix socket
    service: str = ""  # the primary's name at the Sentinels
    database: int = 0
    # Arguments of redis-py's connections to servers and to Sentinels. Any: redis-py types them one by one.
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    has_login: bool = field(default=False, repr=False)  # whether the URL has something before the hosts

    @property
    def kind(self) -> str:
        """Return redis, unix, sentinel or cluster."""
        return _kind(self.scheme)

    @property
    def is_encrypted(self) -> bool:
        """Say whether servers are spoken to with TLS."""
        return self.scheme.startswith("rediss")

    @property
    def tls_options(self) -> dict[str, Any]:  # Any: as above
        """Return the arguments for TLS, which servers and Sentinels share."""
        return {name: value for name, value in self.options.items() if name.startswith("ssl_")}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what is allowed but unsafe."""
        found = []
        uses_tls = self.is_encrypted or self.sentinel_options.get("ssl")
        if uses_tls and self.options.get("ssl_cert_reqs") == "none":
            found.append("ssl_cert_reqs=none: the server's certificate is not verified")
        elif uses_tls and self.options.get("ssl_check_hostname") is False:
            found.append("ssl_check_hostname=false: any certificate of the trusted authority is accepted for any host")
        if self.kind == "sentinel" and self.is_encrypted and "ssl" not in self.sentinel_options:
            found.append("Sentinels are asked without TLS; sentinel_ssl=true encrypts, sentinel_ssl=false accepts this")
        return tuple(found)

    def __str__(self) -> str:
        """Return the URL without credentials and options."""
        where = ",".join(f"{host if ':' not in host else f'[{host}]'}:{port}" for host, port in self.hosts)
        path = {"unix": self.path, "sentinel": f"/{self.service}/{self.database}", "cluster": ""}.get(
            self.kind, f"/{self.database}"
        )
        return f"{self.scheme}://{'***@' if self.has_login else ''}{where}{path}"


def parse_redis_url(url: str) -> RedisAddress:
    """Return the address that a URL names.

    Args:
        url: `redis[s]://[user:password@]host[:port][/database]`, `unix://[user:password@]/path`,
            `redis[s]+sentinel://[user:password@]host[:port],.../service[/database]` or
            `redis[s]+cluster://[user:password@]host[:port],...`, each with `?option=value&...` of the table below.

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
    options, sentinel_options = _options(scheme, query)
    parts = _PATHS[_kind(scheme)](places, slash + path)
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


def _kind(scheme: str) -> str:
    kind = scheme.rpartition("+")[2]
    return "redis" if kind == "rediss" else kind


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


# --- the part after the credentials, by kind


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


# --- options


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


def _options(scheme: str, query: str) -> tuple[dict[str, Any], dict[str, Any]]:
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
