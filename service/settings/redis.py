"""The section `redis`: the store of behaviours."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from contract.redis_url.address import RedisAddress
from contract.redis_url.parse import parse_redis_url
from service.settings.group import Count, Group, Milliseconds, RedisUrl

# No braces, which would move a key to another slot of a Cluster, and no wildcards of Redis ACL patterns.
KeyPrefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,64}$")]


class RedisSettings(Group):
    """The store of behaviours."""

    url: RedisUrl = SecretStr("redis://127.0.0.1:6379/0")
    """redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://. If Redis is down, answers are degraded."""
    prefix: KeyPrefix = ""
    """Prefix of every key, such as `staging:`, so that two environments can share one Redis or Cluster."""
    read_timeout_ms: Milliseconds = 20
    """How long (ms) a read may take before the ranking continues without it."""
    write_timeout_ms: Milliseconds = 250
    """How long (ms) an append may take."""
    max_connections: Count = 16
    """Maximum number of connections for reads, and the same number for writes."""
    read_length: Annotated[int, Field(ge=1, le=4_096)] = 200
    """Number of newest behaviours in the first read. If they do not fill a model's sequence, all are read."""
    max_length: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Behaviours kept per user. At a quarter more, they are trimmed; those that no served model can use go first."""
    ttl_s: Annotated[int, Field(ge=0, le=3_153_600_000)] = 15_552_000
    """How long (s) an inactive user is kept; 0 means forever."""

    item_ttl_s: Annotated[int, Field(ge=0, le=3_153_600_000)] = 2_592_000
    """How long (s) features of an item are kept after they were last stored; 0 means forever."""

    @property
    def address(self) -> RedisAddress:
        """Return the address of the store of behaviours."""
        return parse_redis_url(self.url.get_secret_value())
