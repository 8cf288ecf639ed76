"""Every error this library raises on purpose.

    RerankError
    ├── ConfigurationError          a wrong or contradictory setting, a missing extra
    ├── InputError (ValueError)     a query, document or number that cannot be used
    ├── ModelLoadError              a checkpoint that is incomplete or cannot be run
    │   └── ModelNotFoundError      a name that no model has
    ├── ScoringError                the model ran and its answer cannot be trusted
    └── ServiceError                a remote service; carries status, code, request_id
        ├── AuthenticationError
        ├── InsufficientBalanceError
        ├── RateLimitError
        ├── ServerError
        ├── RequestTimeoutError
        ├── ConnectionFailedError
        ├── ResponseError           an answer that breaks the contract
        ├── RejectedInputError      the input is refused; an InputError too
        └── RejectedSettingError    the model or the address is refused; a ConfigurationError too

Catch `RerankError` for all of them. Every one survives pickling, and none ever holds an
API key. The two rejections have two parents, so that code which handles a model on this machine
handles a service's refusal as well.
"""

from __future__ import annotations

from typing import Literal, Self

LimitKind = Literal["requests", "tokens", "concurrency", "ip"]
"""The limit that was exceeded: requests a minute, tokens a minute, requests at the same time, or
requests from one address."""


class RerankError(Exception):
    """Base of every error raised by this library."""


class ConfigurationError(RerankError):
    """A setting is wrong, two settings contradict each other, or an extra is missing."""


class InputError(RerankError, ValueError):
    """A query, a document or a number given to a call cannot be used.

    Args:
        argument: The argument at fault, as the caller wrote it: `"documents[3]"`.
        problem: What is wrong with it, and what to do about it.

    Attributes:
        argument: The argument at fault.
        problem: As given.
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(argument, problem)
        self.argument = argument
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.argument}: {self.problem}"


class ModelLoadError(RerankError):
    """A model cannot be loaded.

    A file or a tensor is missing, a tensor is left over, or the family is not supported.
    """


class ModelNotFoundError(ModelLoadError):
    """No model has the name that was given: there is no such folder, and none on the hub."""

    @classmethod
    def no_folder(cls, name: str) -> Self:
        """Build the error for a path that is no folder; `name` is the path, prefix included."""
        return cls(f"{name}: no such folder")


class ScoringError(RerankError):
    """Scores could not be computed, or what was computed cannot be trusted (NaN)."""

    @classmethod
    def at_exit(cls) -> Self:
        """Build the error for a call after the threads that compute it have been stopped."""
        return cls(
            "the interpreter is ending and the threads of this package have stopped; rank before "
            "the program's last line, and not in a function that atexit calls"
        )


class ServiceError(RerankError):
    """A remote service failed to answer, or refused to.

    Args:
        message: What happened and what to do about it.
        status: The HTTP status, or None where there was no answer.
        code: The service's own error code, such as `"AUTHZ_INSUFFICIENT_BALANCE"`.
        request_id: The service's identifier of this request, for its support desk.
        retry_after: Seconds that the service asks to wait, where it names them.

    Attributes:
        status: As given.
        code: As given.
        request_id: As given.
        retry_after: As given.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        # Not super(): in the two rejections below that would be a parent with other arguments.
        Exception.__init__(self, message, status, code, request_id)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class AuthenticationError(ServiceError):
    """The key is missing, malformed or not accepted."""


class InsufficientBalanceError(ServiceError):
    """The account behind the key has no tokens left."""


class RateLimitError(ServiceError):
    """The service asks to slow down.

    Args:
        message: As for `ServiceError`.
        status: As for `ServiceError`.
        code: As for `ServiceError`.
        request_id: As for `ServiceError`.
        retry_after: As for `ServiceError`.
        kind: The limit that was exceeded, where the service names it.

    Attributes:
        kind: As given.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        *,
        retry_after: float | None = None,
        kind: LimitKind | None = None,
    ) -> None:
        super().__init__(message, status, code, request_id, retry_after=retry_after)
        self.kind = kind


class ServerError(ServiceError):
    """The service failed on its side."""


class RequestTimeoutError(ServiceError):
    """The deadline passed before an answer came."""


class ConnectionFailedError(ServiceError):
    """No connection could be made, or it broke."""


class ResponseError(ServiceError):
    """The answer breaks the contract: a wrong count, an index twice, a NaN."""


class RejectedInputError(ServiceError, InputError):
    """The service cannot use what was sent, and sending it again would change nothing.

    Args:
        message: As for `ServiceError`.
        status: As for `ServiceError`.
        code: As for `ServiceError`.
        request_id: As for `ServiceError`.
        retry_after: As for `ServiceError`.
        argument: The field at fault, in the service's words.

    Attributes:
        argument: As given, or `"request"`.
        problem: As `message`.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        *,
        retry_after: float | None = None,
        argument: str | None = None,
    ) -> None:
        super().__init__(message, status, code, request_id, retry_after=retry_after)
        self.argument = argument or "request"
        self.problem = message


class RejectedSettingError(ServiceError, ConfigurationError):
    """The service knows no such model or address, or a proxy does not accept its password."""
