"""Errors by which the service refuses a request, independent of the dialects' formats.

    Refused
    ├── Unauthorized          401  the key is missing or unknown
    ├── UnknownModel          400
    ├── InvalidRequest        422  fields are missing or of the wrong type; names each
    ├── UnusableInput         422  a text or a number that cannot be used; names which
    ├── Unreadable            400  the body is not JSON
    ├── TooLarge              413  too many bytes, documents or tokens in one request
    ├── UnsupportedEncoding   415  a compressed body
    ├── SlowRequest           408  the body did not arrive in time
    ├── WrongHost             421  the Host header has a name that a web page may have chosen
    ├── TooManyRequests       429  the queue is full
    ├── ClientGone            499  the client closed its connection
    ├── InternalFailure       500
    ├── Draining              503  the process is about to end
    └── DeadlineExceeded      504

The statuses and codes are those of Jina's hosted service if it has one for the case. No message
quotes data that a client has sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class Refused(Exception):  # noqa: N818 - it reads as what it is
    """A refusal: a request is answered with an error instead of a ranking.

    Args:
        message: Description of the problem and its remedy.
        code: Code for programs; None for the class's code.
        retry_after: Seconds after which the request may be sent again; None if unknown.

    Attributes:
        status: HTTP status.
        code: Code for programs.
        message: Description of the problem and its remedy.
        retry_after: Seconds after which the request may be sent again; None if unknown.
    """

    status: ClassVar[int]
    code: str

    def __init__(
        self, message: str, code: str | None = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        if code is not None:
            self.code = code


class Unauthorized(Refused):
    """The key is missing or unknown."""

    status = 401
    code = "AUTH_INVALID_API_KEY"


class UnknownModel(Refused):
    """No model of that name is served."""

    status = 400
    code = "INPUT_MODEL_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class WrongField:
    """A problem with a field of a request.

    Attributes:
        path: Path of the field, outermost first: `("body", "documents", 3)`.
        message: Description of the problem.
        kind: Short name of the problem: `"string_type"`.
    """

    path: tuple[str | int, ...]
    message: str
    kind: str

    @property
    def name(self) -> str:
        """The field as messages name it, `documents[3]`; `body` for the body itself."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path[1:])
        return "".join(parts).removeprefix(".") or "body"


class InvalidRequest(Refused):
    """Fields are missing or of the wrong type.

    Args:
        fields: The problems, at least one.

    Attributes:
        fields: The problems.
    """

    status = 422
    code = "INPUT_INVALID"

    def __init__(self, fields: Sequence[WrongField]) -> None:
        super().__init__("; ".join(f"{field.name}: {field.message}" for field in fields))
        self.fields = tuple(fields)


class UnusableInput(InvalidRequest):
    """A query, a document or a number that cannot be used."""


class TooLong(Refused):
    """A text exceeds the model's maximum, and the request forbids truncation."""

    status = 400
    code = "INPUT_TOKEN_LIMIT_EXCEEDED"


class Unreadable(Refused):
    """The body is not JSON."""

    status = 400
    code = "INPUT_NOT_JSON"


class TooLarge(Refused):
    """Too many bytes, documents or tokens for one request."""

    status = 413
    code = "INPUT_TOO_LARGE"


class UnsupportedEncoding(Refused):
    """The body is compressed."""

    status = 415
    code = "INPUT_ENCODING"


class SlowRequest(Refused):
    """The body did not arrive in time."""

    status = 408
    code = "REQUEST_TIMEOUT"


class WrongHost(Refused):
    """The Host header has a name that a web page may have chosen; see `hosts.check_host`."""

    status = 421
    code = "HOST_NOT_ALLOWED"


class TooManyRequests(Refused):
    """The queue is full."""

    status = 429
    code = "RATE_CONCURRENCY_LIMIT_EXCEEDED"


class ClientGone(Refused):
    """The client has closed its connection; the status is nginx's, and appears in logs only."""

    status = 499
    code = "CLIENT_GONE"


class InternalFailure(Refused):
    """The service failed; its log has the error."""

    status = 500
    code = "INTERNAL_ERROR"


class Draining(Refused):
    """The process is about to end; another process can answer the request."""

    status = 503
    code = "SERVICE_UNAVAILABLE"


class DeadlineExceeded(Refused):
    """The request took longer than the deadline."""

    status = 504
    code = "SERVICE_TIMEOUT"
