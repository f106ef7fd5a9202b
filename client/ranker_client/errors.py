"""The errors of a call."""

from __future__ import annotations


class RankerError(Exception):
    """A call that has no result."""


class Refused(RankerError):  # noqa: N818 - the names read as states
    """The service answered with an error.

    Args:
        status: of the answer.
        code: for programs, such as `invalid_request` (docs/http-api.md, "Errors").
        message: for people.
        request_id: of the request, as in the service's log.
        field: the first field that cannot be used, if it is about one.
        retry_after: seconds after which the service wants to be asked again.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        request_id: str | None = None,
        field: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status, self.code, self.message, self.request_id = status, code, message, request_id
        self.field, self.retry_after = field, retry_after
        place = f" ({field})" if field else ""
        super().__init__(f"{status} {code}: {message}{place}, request {request_id}")


class NoAnswer(RankerError):  # noqa: N818
    """The service could not be reached, or the connection ended before the answer."""


class DeadlinePassed(RankerError):  # noqa: N818
    """There was no answer within the call's budget."""
