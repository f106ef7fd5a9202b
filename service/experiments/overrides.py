"""X-AB-Override: a tester's signed request for an arm (docs/experiments.md, "Overrides").

    X-AB-Override: rank=pyramid-vs-mgnm:treatment;t=1765000000;s="<64 hex digits>"

An RFC 9651 dictionary, layer to `experiment:arm`, whose last member carries the time of signing in seconds and

    s = HMAC-SHA256(secret, "t" LF "unit" LF "value")      value: everything before `;t=`

Neither time nor value can contain a line feed, so no two triples share a signed text. An invalid header is ignored and
counted, never an error: an old link must not break a feed. Served under an override is never analysed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

from contract.experiments.assignment import ExperimentsSnapshot
from contract.experiments.definition import ExperimentsConfig
from service.names import RejectReason

OVERRIDE_HEADER: Final = "x-ab-override"
MAX_AGE_SECONDS: Final = 300
MAX_SKEW_SECONDS: Final = 30  # how far the signer's clock may be ahead
MAX_HEADER_LENGTH: Final = 1024


_KEY = r"[a-z][a-z0-9_-]{0,31}"
_MEMBER = rf"{_KEY}={_KEY}:{_KEY}"
_HEADER = re.compile(
    rf'(?P<value>{_MEMBER}(?:, {_MEMBER}){{0,7}});t=(?P<time>[0-9]{{1,12}});s="(?P<signature>[0-9a-f]{{64}})"'
)


def signature(secret: str, timestamp: int, unit: str, value: str) -> str:
    """Return the HMAC-SHA256 of an override in hexadecimal; `timestamp` in seconds since the epoch."""
    return hmac.new(secret.encode(), f"{timestamp}\n{unit}\n{value}".encode(), sha256).hexdigest()


def sign(secret: str, timestamp: int, unit: str, value: str) -> str:
    """Return the whole X-AB-Override header.

    Args:
        secret: the service's `experiments.override_secret`.
        timestamp: now, in seconds since the epoch; the header is valid for 300 s.
        unit: the user id that it is for; it is invalid for any other.
        value: `layer=experiment:arm`, several separated by a comma and a space.
    """
    return f'{value};t={timestamp};s="{signature(secret, timestamp, unit, value)}"'


class Overrides:
    """Checks override headers.

    Args:
        secret: the key that signs headers; None or empty: no header is accepted.
        on_rejected: called with the reason of each header that is ignored.
    """

    def __init__(self, secret: str | None, on_rejected: Callable[[RejectReason], None]) -> None:
        self._secret = secret
        self._on_rejected = on_rejected

    def use(self, secret: str) -> None:
        """Check headers with another secret from now on."""
        self._secret = secret

    def forced(
        self, header: str | None, unit: str, snapshot: ExperimentsSnapshot, now_ms: int
    ) -> Mapping[str, str] | None:
        """Return layer to `experiment:arm` for `ExperimentsSnapshot.decide`, or None without a valid header.

        All or nothing: one unknown arm makes the header invalid. Never raises.
        """
        if header is None:
            return None
        verdict = self._judge(header, unit, snapshot.config, now_ms)
        if isinstance(verdict, str):
            self._on_rejected(verdict)
            return None
        return verdict

    def _judge(self, header: str, unit: str, config: ExperimentsConfig, now_ms: int) -> dict[str, str] | RejectReason:
        if not self._secret or not config.overrides.header_enabled:
            return "disabled"
        match = _HEADER.fullmatch(header) if len(header) <= MAX_HEADER_LENGTH else None
        wishes = [member.split("=") for member in match["value"].split(", ")] if match else []
        wanted: dict[str, str] = dict(wishes)
        if match is None or len(wanted) < len(wishes) or not _is_utf8(unit):
            return "malformed"
        # The signature before the time: without the secret, a caller learns nothing about the service's clock.
        expected = signature(self._secret, int(match["time"]), unit, match["value"])
        if not hmac.compare_digest(expected, match["signature"]):
            return "signature"
        if not -MAX_SKEW_SECONDS <= now_ms / 1000 - int(match["time"]) <= MAX_AGE_SECONDS:
            return "expired"
        return wanted if wanted.items() <= _arms(config) else "unknown_arm"


def _is_utf8(unit: str) -> bool:
    try:
        unit.encode()
    except UnicodeEncodeError:  # a lone surrogate: it has no bytes to sign
        return False
    return True


def _arms(config: ExperimentsConfig) -> set[tuple[str, str]]:
    """Return every (layer, `experiment:arm`) that can be served; a stopped experiment's cannot."""
    return {
        (layer.key, f"{experiment.key}:{arm.key}")
        for layer in config.layers
        for experiment in layer.experiments
        if experiment.status != "stopped"
        for arm in experiment.arms
    }
