"""The head of a request: the meaning of its target, and the reasons to refuse it.

The rules are those of RFC 9112: section 3.2 for the target, section 6 for the framing of the body.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import httptools

from service.errors import HeadersTooLarge, Malformed, NotImplementedHere, RankerError
from service.settings.limits import LimitsSettings

NOT_HTTP: Final = "The bytes are not an HTTP/1.1 request that this service takes."
_TARGET: Final = "The request's target must be a path, or an http or https URL without a user."
_AUTHORITY_END: Final = re.compile(rb"[/?#]")
_SCHEMES: Final = frozenset({b"http", b"https"})
_VERSION: Final = b"/v1/"
_VERSIONS_AND_HOSTS: Final = frozenset({("1.1", 1), ("1.0", 1), ("1.0", 0)})

Headers = list[tuple[bytes, bytes]]


class Target(NamedTuple):
    """The target of a request."""

    path: bytes  # with its query; `*` asks for the server as a whole
    authority: bytes | None = None  # host and port, if the target names them: they replace the Host header


def target_of(method: bytes, target: bytes) -> Target:
    """Return the path that a request target means, in any of the forms of RFC 9112 section 3.2.

    Raises:
        Malformed: an origin server does not serve such a target.
    """
    if method == b"CONNECT":
        raise Malformed(_TARGET)
    if target.startswith(b"/"):
        return Target(target)
    if target == b"*":
        if method != b"OPTIONS":
            raise Malformed(_TARGET)
        return Target(target)
    return _absolute(method, target)


def unversioned(path: bytes) -> bytes:
    """Return the path of a route without the prefix of the API's version, `/v1`.

    Everything behind the connection sees one path for each route: no rule about paths can be passed by through the
    other one.
    """
    if path.startswith(_VERSION) and path[len(_VERSION) : len(_VERSION) + 1] not in (b"", b"/", b"?"):
        return path[len(_VERSION) - 1 :]
    return path


def refusal(head: Headers, version: str, limits: LimitsSettings, *, size: int, target_size: int) -> RankerError | None:
    """Return why a request is refused for its head, or None.

    Args:
        head: the header lines.
        version: of HTTP.
        limits: of sizes.
        size: bytes of the whole head.
        target_size: bytes of the target as it was sent.
    """
    if target_size > limits.max_url_bytes or size > limits.max_header_bytes or len(head) > limits.max_header_lines:
        return HeadersTooLarge()
    hosts = 0
    codings: list[bytes] = []
    for name, value in head:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings += [coding.strip().lower() for coding in value.split(b",")]
    if (version, hosts) not in _VERSIONS_AND_HOSTS:
        return Malformed(NOT_HTTP)
    return _coding_refusal(codings, version) if codings else None


def with_host(head: Headers, authority: bytes) -> Headers:
    """Return the header lines with the host that the target names, which replaces the one that was sent."""
    return [(b"host", authority), *[(name, value) for name, value in head if name != b"host"]]


def without_upgrade(method: bytes, target: bytes, version: str, head: Headers) -> bytes:
    """Return the bytes of a head without its line `Upgrade`."""
    lines = [name + b": " + value + b"\r\n" for name, value in head if name != b"upgrade"]
    return method + b" " + target + b" HTTP/" + version.encode() + b"\r\n" + b"".join(lines) + b"\r\n"


def _absolute(method: bytes, target: bytes) -> Target:
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise Malformed(_TARGET) from None
    scheme, _, rest = target.partition(b"://")
    authority = _AUTHORITY_END.split(rest, maxsplit=1)[0]
    if scheme.lower() not in _SCHEMES or b"@" in authority:
        raise Malformed(_TARGET)
    if not url.path and not url.query and method == b"OPTIONS":
        return Target(b"*", authority)  # RFC 9112 section 3.2.4
    query = b"?" + url.query if url.query else b""
    return Target((url.path or b"/") + query, authority)


def _coding_refusal(codings: list[bytes], version: str) -> RankerError | None:
    """Refuse every transfer coding but `chunked`; HTTP/1.0 has none, so there the framing is faulty."""
    if version != "1.1":
        return Malformed(NOT_HTTP)
    if codings == [b"chunked"]:
        return None
    return NotImplementedHere("The only Transfer-Encoding that this service takes is chunked.")
