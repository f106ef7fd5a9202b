"""Errors of Redis: their kinds for counting, and whether another server or another try would help."""

from __future__ import annotations

import re
from typing import Final

from redis import exceptions as redis_errors
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from service.names import ErrorKind

# Replies that mean: this server is not, or not yet, the right one. UNBLOCKED comes when a primary becomes a replica;
# NOREPLICAS from a primary that has lost its replicas (min-replicas-to-write), as one does that is being replaced.
_WRONG_SERVER: Final = ("UNBLOCKED", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "MOVED", "ASK", "TRYAGAIN")
# Redis 6 wraps the error of a command in a script: "ERR Error running script (...): @user_script:1: -READONLY ...".
_INSIDE_SCRIPT: Final = re.compile(r"@user_script: ?\d+: -([A-Z]+) ")
_CUT: Final = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


class LeftAlone(RedisError):  # noqa: N818 - reads as a state
    """The node failed so often that it is not asked for a while."""


class NoServer(RedisError):  # noqa: N818 - as above
    """No server is known for this key."""


class Busy(RedisError):  # noqa: N818 - as above
    """All connections to the node were in use for too long. The cause is the service's load, not the node."""


class Unconfirmed(RedisError):  # noqa: N818 - as above
    """The primary accepted the commands but no replica did; a failover may be in progress and lose them."""


def kind_of(error: Exception) -> ErrorKind:
    """Return the kind that an error is counted as."""
    for types, kind in _KINDS:
        if isinstance(error, types):
            return kind
    if not isinstance(error, ResponseError):
        return "other"
    if is_wrong_server(error):
        return "wrong_server"
    return "wrong_type" if _code(error) == "WRONGTYPE" else "response"


def is_wrong_server(error: Exception) -> bool:
    """Return whether to ask another server instead."""
    redirects = (ReadOnlyError, AskError, redis_errors.TryAgainError, redis_errors.ClusterDownError, BusyLoadingError)
    return isinstance(error, (*redirects, Unconfirmed)) or (
        isinstance(error, ResponseError) and _code(error) in _WRONG_SERVER
    )


def is_redirect(error: object) -> bool:
    """Return whether the error names the node of a Cluster to ask instead."""
    return isinstance(error, (MovedError, AskError))


def is_cut(error: Exception) -> bool:
    """Return whether an open connection ended or carried garbage; another one to the same address may work."""
    if isinstance(error, redis_errors.InvalidResponse):
        return True
    return _is_of_connection(error) and (error.__context__ is None or isinstance(error.__context__, _CUT))


def is_unreachable(error: Exception) -> bool:
    """Return whether no connection could be made to the address: refused, no route, or no such name."""
    return _is_of_connection(error) and isinstance(error.__context__, OSError) and not is_cut(error)


def is_of_no_use(reply: object) -> bool:
    """Return whether a reply means that the server serves no one, unlike a wrong type or an unknown script."""
    return isinstance(reply, Exception) and not isinstance(reply, NoScriptError) and kind_of(reply) != "wrong_type"


def _is_of_connection(error: Exception) -> bool:
    others = (AuthenticationError, AuthorizationError, BusyLoadingError, TimeoutError)
    return isinstance(error, (redis_errors.ConnectionError, OSError)) and not isinstance(error, others)


def _code(error: Exception) -> str:
    text = str(error)
    raised_inside = _INSIDE_SCRIPT.search(text)
    return raised_inside[1] if raised_inside else text.partition(" ")[0]


_KINDS: Final[tuple[tuple[tuple[type[Exception], ...], ErrorKind], ...]] = (
    ((Busy,), "busy"),
    ((Unconfirmed,), "unconfirmed"),
    ((TimeoutError, redis_errors.TimeoutError), "timeout"),
    ((AuthenticationError, AuthorizationError, NoPermissionError), "auth"),
    ((BusyLoadingError,), "loading"),
    ((redis_errors.ConnectionError, RedisClusterException, NoServer, OSError), "connection"),
)
