"""Why the service does not answer with a ranking, before any dialect has put it in its own words.

    Refused
    ├── Unauthorized          401  no key, or none that is known
    ├── UnknownModel          400
    ├── InvalidRequest        422  fields are missing or of the wrong type; names each
    ├── UnusableInput         422  a text or a number that cannot be used; names which
    ├── Unreadable            400  the body is no JSON
    ├── TooLarge              413  bytes, documents or tokens; fewer at a time would do
    ├── UnsupportedEncoding   415  a compressed body
    ├── SlowRequest           408  the body did not arrive in time
    ├── TooManyRequests       429  the queue is full
    ├── ClientGone            499  nobody reads the answer
    ├── InternalFailure       500
    ├── Draining              503  the process is about to end
    └── DeadlineExceeded      504

The statuses and codes are those of Jina's hosted service where it has one for the case. No message
quotes what a client has sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class Refused(Exception):  # noqa: N818 - it reads as what it is
    """A request that gets no ranking.

    Args:
        message: What is wrong and what to do about it.
        code: What programs read; None is the class's own.
        retry_after: After how many seconds it may be sent again; None says nothing of it.

    Attributes:
        status: The HTTP status.
        code: What programs read.
        message: As given.
        retry_after: As given.
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
    """There is no key, or none that is known."""

    status = 401
    code = "AUTH_INVALID_API_KEY"


class UnknownModel(Refused):
    """No model of that name is served."""

    status = 400
    code = "INPUT_MODEL_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class WrongField:
    """One thing that is wrong with a request's fields.

    Attributes:
        path: Where it is, outermost first: `("body", "documents", 3)`.
        message: What is wrong.
        kind: A short name for that: `"string_type"`.
    """

    path: tuple[str | int, ...]
    message: str
    kind: str


class InvalidRequest(Refused):
    """Fields are missing or of the wrong type.

    Args:
        fields: Each of them; at least one.

    Attributes:
        fields: As given.
    """

    status = 422
    code = "INPUT_INVALID"

    def __init__(self, fields: Sequence[WrongField]) -> None:
        said = (f"{'.'.join(map(str, f.path[1:])) or 'body'}: {f.message}" for f in fields)
        super().__init__("; ".join(said))
        self.fields = tuple(fields)


class UnusableInput(InvalidRequest):
    """A query, a document or a number that cannot be used."""


class TooLong(Refused):
    """A text is longer than the model reads, and the request forbids to cut it."""

    status = 400
    code = "INPUT_TOKEN_LIMIT_EXCEEDED"


class Unreadable(Refused):
    """The body is no JSON."""

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


class TooManyRequests(Refused):
    """The queue is full."""

    status = 429
    code = "RATE_CONCURRENCY_LIMIT_EXCEEDED"


class ClientGone(Refused):
    """The client has closed its connection; the status is nginx's name for that, in logs only."""

    status = 499
    code = "CLIENT_GONE"


class InternalFailure(Refused):
    """Something failed here; the log says what."""

    status = 500
    code = "INTERNAL_ERROR"


class Draining(Refused):
    """The process is about to end; another one will answer."""

    status = 503
    code = "SERVICE_UNAVAILABLE"


class DeadlineExceeded(Refused):
    """It took longer than a request may."""

    status = 504
    code = "SERVICE_TIMEOUT"
