"""The check of each request: whose key it has, whether the key's scopes include the path's, and the caller's quota."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.access.callers import Callers, Key
from service.access.file import AccessFile
from service.access.pace import STRANGERS_SECONDS, Pace
from service.access.scopes import OPEN, Scope, scope_of
from service.errors import Forbidden, NotFound, OverQuota, RankerError, Unauthorized
from service.flow.gate import Gate

_HEADER: Final = b"authorization"
_NO_KEY: Final = "Send an API key: `Authorization: Bearer <key>`."
_NOT_BEARER: Final = "Send one Authorization header: `Bearer` and an API key."
_UNKNOWN: Final = "The API key is not known."


class Access:
    """See the module.

    Args:
        workers: processes behind the port; each has its share of every quota.
        rankings: the gate that callers share.
    """

    def __init__(self, workers: int, rankings: Gate) -> None:
        self._callers = Callers(1 / workers, rankings)
        self._strangers = Pace(STRANGERS_SECONDS)  # refusals of those without a key

    def put(self, file: AccessFile) -> None:
        """Put a file in force."""
        self._callers.put(file)

    def allowed(self, headers: Sequence[tuple[bytes, bytes]], scope: Scope) -> Key | None:
        """Return the key of a request that has the scope and is within its quota; None: `admit` knows why not."""
        for name, value in headers:
            if name == _HEADER:
                key = self._callers.find(value)
                usable = key is not None and scope in key.caller.scopes and key.caller.meter.used_up() is None
                return key if usable else None
        return None

    def identify(self, path: str, headers: Sequence[tuple[bytes, bytes]]) -> Key | None:
        """Return the key of a request; None for a path that needs none.

        Raises:
            Unauthorized: it has no key in force.
        """
        if path in OPEN:
            return None
        values = [value for name, value in headers if name == _HEADER]
        key = self._callers.find(values[0]) if len(values) == 1 else None
        if key is None:
            raise _unauthorized(values)
        return key

    def check(self, key: Key, path: str) -> None:
        """Count a request of a key, or refuse it.

        Raises:
            NotFound: no route has the path. The router must not see it: its patterns may match more than the table.
            Forbidden: the key lacks the path's scope.
            OverQuota: its caller has used up its quota.
        """
        scope = scope_of(path)
        if scope is None:
            raise NotFound
        if scope not in key.caller.scopes:
            challenge = f'Bearer realm="ranker", error="insufficient_scope", scope="{scope}"'
            raise Forbidden(
                f"The API key lacks the scope `{scope}`.", headers=[(b"www-authenticate", challenge.encode())]
            )
        used_up = key.caller.meter.used_up()
        if used_up is not None:
            unit, seconds = used_up
            raise OverQuota(f"The caller's quota of {unit} is used up.", retry_after=seconds)
        key.caller.meter.count("requests")

    def pace(self, error: RankerError, key: Key | None) -> Pace | None:
        """Return the pace at which such refusals are sent; None: as other errors are."""
        if isinstance(error, Unauthorized):
            return self._strangers
        return key.caller.pace if isinstance(error, OverQuota) and key is not None else None


def _unauthorized(values: Sequence[bytes]) -> Unauthorized:
    if not values:
        return Unauthorized(_NO_KEY, headers=[(b"www-authenticate", b'Bearer realm="ranker"')])
    is_bearer = len(values) == 1 and values[0][:7].lower() == b"bearer "
    challenge = b'Bearer realm="ranker", error="%b"' % (b"invalid_token" if is_bearer else b"invalid_request")
    return Unauthorized(_UNKNOWN if is_bearer else _NOT_BEARER, headers=[(b"www-authenticate", challenge)])
