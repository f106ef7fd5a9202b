"""One connection: uvicorn's httptools protocol, with the limits that it lacks.

uvicorn waits forever for a request that does not arrive, takes headers of any size, answers a malformed request in
plain text, and closes a connection whose body it has not read so that the caller may lose the answer. Here every wait
is bounded, every buffer is limited, and bytes that never become a request are answered like all others: JSON, a
request id, and X-AB-Bucket.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.connection.answering import FIRST_LOOK_SECONDS, Guard
from service.connection.exchange import CLIENT_GONE, REFUSED, WAITED
from service.connection.head import NOT_HTTP, refusal, target_of, unversioned, with_host, without_upgrade
from service.connection.last_answer import last_answer
from service.connection.rankings import RankingProtocol
from service.connection.transport import LAST_LOOK_SECONDS
from service.errors import HeadersTooLarge, Malformed, NotReady, RankerError, ReceiveTimeout

__all__ = ["Guard", "GuardedProtocol"]

_LINGER_BYTES: Final = 64 * 1024 * 1024  # of a refused body, read and thrown away so that the refusal arrives


class GuardedProtocol(RankingProtocol):
    """See the module.

    Args:
        guard: limits, counts.
        parts: uvicorn's arguments for a protocol.
    """

    def __init__(self, guard: Guard, **parts: Any) -> None:  # Any: uvicorn's arguments, passed through
        super().__init__(guard, **parts)
        self._head_bytes = 0  # of a request whose headers are not all there yet
        self._head_size = 0  # of the same, as parsed
        self._timer: asyncio.TimerHandle | None = None
        self._timer_for = ""
        self._refusal: RankerError | None = None  # to be sent, or sent: nothing more is read
        self._lingering = 0  # bytes that may still be thrown away
        self._is_head = False  # the request that is being read: its answer never has a body
        self._opened_at = self.loop.time()

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it above the limit."""
        super().connection_made(transport)
        self._guard.count(len(self.connections))
        if len(self.connections) <= self._guard.http.max_connections or self._makes_room():
            self._await("head")
            return
        self._guard.metrics.connection_refused("too_many")
        self._refuse(NotReady("There are too many connections."))
        transport.close()  # and no lingering: it would keep the connections that are too many

    def _makes_room(self) -> bool:
        """End the oldest connection that waits for its caller; return whether there was one."""
        others = [one for one in self.connections if isinstance(one, GuardedProtocol) and one is not self]
        waiting = [one for one in others if one._waits_for_its_caller()] if self._guard.makes_room else []
        if not waiting:
            return False
        self._guard.metrics.connection_refused("too_many")
        min(waiting, key=lambda one: one._opened_at).transport.abort()
        return True

    def _waits_for_its_caller(self) -> bool:
        """Return whether no whole request is being answered: the connection is idle, or a request arrives slowly."""
        unanswered = self._unanswered()
        is_in_body = self._in_body and len(unanswered) == 1 and unanswered[0] is self.cycle
        return not self.transport.is_closing() and (not unanswered or is_in_body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._await("")
        self._go_the_long_way()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Continue for a caller that has finished sending and waits for answers; otherwise close."""
        self._await("")
        self._go_the_long_way()
        unanswered = self._unanswered()
        if self._in_body and unanswered and unanswered[-1] is self.cycle:
            unanswered.pop()  # the rest of it will never come
            if unanswered:
                self.pipeline.popleft()
                self._guard.metrics.refused_by_protocol(CLIENT_GONE)
        if not unanswered or self._wire.is_closing():
            return False
        self._in_body = False
        if self._refusal is None:
            unanswered[-1].keep_alive = False
        if not unanswered[0].response_started:
            self._wire.begin_answer()
            self._look(FIRST_LOOK_SECONDS)
        return True

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, within the limits."""
        if self._refusal is not None or self._lingering:
            self._throw_away(len(data))
            return
        if self._goes_without_parser(data):
            return
        self._unset_keepalive_if_required()
        if not self._in_body:
            if not self._in_head:
                self._waited = self._waited_seconds()
            self._head_bytes += len(data)
        is_beginning, self._is_usual = not (self._in_head or self._in_body), False
        self._feed(data)
        if is_beginning and self._is_usual:
            self._guard.heads.note(data, self.headers, self._budget)
        if self._refusal is None and not self._lingering:
            self._bound_what_follows()

    def _is_last(self) -> bool:
        """Return whether nothing is to be written after the answer in progress."""
        return not (self.pipeline or self._refusal is not None or self.flow.read_paused)

    def on_response_complete(self) -> None:
        """Send a refusal that waited for the previous answer, or continue with the next request."""
        is_last = not self.pipeline
        super().on_response_complete()
        if self._refusal is not None and is_last and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._write_refusal(self._refusal)

    # --- the parser's calls

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head, self._head_size = True, 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        super().on_url(url)
        self._head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header line; as uvicorn does, without a second call for each line."""
        self._head_size += len(name) + len(value) + 4
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the headers are too many, too long, or not HTTP/1.1."""
        self._head_bytes, self._in_head, self._in_body = 0, False, True
        self._is_head = self.parser.get_method() == b"HEAD"
        self._check_head()
        cast(dict[str, Any], self.scope)[WAITED] = self._waited
        self._is_upgrading = self.parser.should_upgrade()
        if self._may_go_the_short_way():
            self._begin_the_short_way()
        elif not self._is_upgrading:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._has_kept(body):
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self._in_body = self._is_head = False
        if self._has_gone_the_short_way():
            return
        if not self._is_upgrading:
            super().on_message_complete()

    # --- inside

    def _bound_what_follows(self) -> None:
        if self._in_body:
            self._await("body")
        elif not self._in_head:
            self._head_bytes = 0
            self._await("")
        elif self._head_bytes > self._guard.limits.max_header_bytes:
            self._refuse(HeadersTooLarge())
        else:
            self._await("head")

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # Nothing is upgraded, as HTTP allows. The parser has left the body to the other protocol: parse
                # again, without the upgrade. Java's client asks for HTTP/2 in its every first request.
                parser = self.parser
                head = without_upgrade(parser.get_method(), self.url, parser.get_http_version(), self.headers)
                data = head + data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                cause = error.__context__
                self._refuse_rest(cause.error if isinstance(cause, _Refused) else Malformed(NOT_HTTP))
                return

    def _refuse_rest(self, error: RankerError) -> None:
        """Refuse what cannot be parsed: a new request, or the rest of a body that the application waits for."""
        self._go_the_long_way()
        has_begun = self._in_body and self.cycle is not None and self.cycle.scope is self.scope
        if not has_begun:
            self._refuse(error)
        elif self.pipeline or self.cycle.response_started:
            self.transport.abort()  # answered already, or others are to be answered first
        else:
            self._give_up(self.cycle, error)

    def _check_head(self) -> None:
        """Refuse a head that is too large or not HTTP/1.1; reduce the target to its path, without a version."""
        sizes = {"size": self._head_size, "target_size": len(self.url)}
        error = refusal(self.headers, self.parser.get_http_version(), self._guard.limits, **sizes)
        if error is not None:
            raise _Refused(error)
        try:
            path, authority = target_of(self.parser.get_method(), self.url)
        except Malformed as malformed:
            raise _Refused(malformed) from malformed
        self.url = unversioned(path)
        if authority is not None:
            self.headers[:] = with_host(self.headers, authority)

    def _await(self, what: str) -> None:
        """Limit the time for the head or the body of a request; the time runs on with every part."""
        if what == self._timer_for:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_for = what
        if what:
            http = self._guard.http
            timeout_ms = http.header_timeout_ms if what == "head" else http.body_timeout_ms
            self._timer = self.loop.call_later(timeout_ms / 1000, self._too_slow)

    def _too_slow(self, *, is_last: bool = False) -> None:
        if not is_last and not self.transport.is_closing() and self._wire.has_bytes():  # in time, but not read yet
            self._timer = self.loop.call_later(LAST_LOOK_SECONDS, partial(self._too_slow, is_last=True))
            return
        what, self._timer, self._timer_for = self._timer_for, None, ""
        if self.transport.is_closing() or self._refusal is not None:
            return
        self._guard.metrics.connection_refused(f"slow_{what}")
        if what == "head" and not self._in_head:
            self.transport.close()  # there was no request
            return
        self._refuse_rest(ReceiveTimeout())

    def _give_up(self, cycle: RequestResponseCycle, error: RankerError) -> None:
        """Answer for the application, which waits for the rest of a body, and tell it that the caller is gone."""
        cast(dict[str, Any], cycle.scope)[REFUSED] = error.status
        cycle.disconnected = True
        cycle.message_event.set()
        self._await("")
        self._refusal = error
        self._write_refusal(error, counted=False)

    def _refuse(self, error: RankerError) -> None:
        """Answer bytes that never became a request, after the answers in progress."""
        self._refusal = error
        self._await("")
        if self.cycle is not None and not self.cycle.response_complete:
            return
        self._write_refusal(error)

    def _write_refusal(self, error: RankerError, *, counted: bool = True) -> None:
        if counted:
            self._guard.metrics.refused_by_protocol(error.status)
        self.transport.write(last_answer(error, self._guard.headers(), has_body=not self._is_head))
        self._in_body = True  # further bytes are discarded
        self.transport.close()

    # --- closing

    @property
    def is_lingering(self) -> bool:
        """Return whether all is answered, and further bytes are discarded."""
        return bool(self._lingering)

    def close_when_read(self, transport: asyncio.Transport) -> None:
        """Close; while the caller is still sending, discard the bytes, or the reset could overtake the answer."""
        if self._lingering:
            return
        if not self._in_body or transport.is_closing():
            transport.close()
            return
        self._lingering = _LINGER_BYTES
        if transport.can_write_eof():
            transport.write_eof()
        self.flow.resume_reading()
        self._await("")
        self._timer = self.loop.call_later(self._guard.http.body_timeout_ms / 1000, transport.abort)
        self._timer_for = "linger"

    def _throw_away(self, size: int) -> None:
        if self._lingering:
            self._lingering = max(1, self._lingering - size)
            if self._lingering == 1:
                self.transport.abort()


class _Refused(Exception):  # noqa: N818 - passes through the parser, which wraps it
    def __init__(self, error: RankerError) -> None:
        super().__init__(error.message)
        self.error = error
