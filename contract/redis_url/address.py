"""Where Redis is and how to log in; shown without credentials and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ESCAPES: Final = "in a user name or password write / as %2F, # as %23, ? as %3F and @ as %40"


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
        return kind_of(self.scheme)

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


def kind_of(scheme: str) -> str:
    """Return redis, unix, sentinel or cluster."""
    kind = scheme.rpartition("+")[2]
    return "redis" if kind == "rediss" else kind
