"""The seam between the engine and the ways in which clients speak to it."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from ..errors import InputError, RateLimitError, RequestTimeoutError, RerankError
from ..scorers.base import LongDocuments, ScoreRequest
from .limits import read_json
from .refusals import (
    DeadlineExceeded,
    InternalFailure,
    InvalidRequest,
    Refused,
    TooManyRequests,
    UnusableInput,
    WrongField,
)

if TYPE_CHECKING:
    from .engine import Engine

logger = logging.getLogger(__name__)

AnswerRefusal = Callable[[Refused, Request], Response]
"""Puts a refusal in a dialect's own words."""


@dataclass(frozen=True, slots=True)
class RankJob:
    """A request of any dialect, whatever its words.

    Attributes:
        model: A served name; None is the first that is served.
        query: The question.
        documents: The candidates, as strings.
        top_n: How many to answer; None is all.
        long_documents: See `ScoreRequest`; None is what the model does by itself.
        max_document_tokens: See `ScoreRequest`.
        threshold: The least score to answer; None is all.
        instruction: See `ScoreRequest`.
    """

    model: str | None
    query: str
    documents: Sequence[str]
    top_n: int | None = None
    long_documents: LongDocuments | None = None
    max_document_tokens: int | None = None
    threshold: float | None = None
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """Several queries as one request.

    Attributes:
        model: As in `RankJob`.
        requests: At least one. The dialect has checked their texts, for which it has its own names.
    """

    model: str | None
    requests: Sequence[ScoreRequest]


def long_documents_of(truncation: bool | None) -> LongDocuments | None:
    """The option that a field means by which many services cut texts, or refuse them."""
    if truncation is None:
        return None
    return "truncate" if truncation else "error"


class Dialect(Protocol):
    """A way of asking for rankings, with its own paths, fields and errors."""

    def router(self, engine: Engine) -> APIRouter:
        """Its routes, made by `guarded_router`."""
        ...


def guarded_router(engine: Engine, answer: AnswerRefusal) -> APIRouter:
    """A router for a dialect's routes.

    Each of them lets in who has a key, reads a body within the limits, and answers whatever is
    raised through `answer`: a `Refused`, a `RerankError`, a body that does not fit the route's
    model, and anything else as `InternalFailure`. Lists in such a model need `fail_fast`: a million
    wrong items would otherwise become a million errors.

    Args:
        engine: Whose keys and limits apply.
        answer: The dialect's own words.
    """

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    # Before its body is read: who has no key is to cost nothing.
                    engine.authorize(request)
                    if request.method == "POST":
                        request = ReadRequest(request, await read_json(request, engine.settings))
                    return await handle(request)
                except Exception as error:  # noqa: BLE001 - every kind has an answer
                    refused = as_refusal(error)
                    response = answer(refused, request)
                    if refused.retry_after is not None:
                        seconds = max(1, math.ceil(refused.retry_after))
                        response.headers["retry-after"] = str(seconds)
                    return response

            return guarded

    return APIRouter(route_class=Guarded)


class ReadRequest(Request):
    """A request whose body has been read.

    Attributes:
        value: What the body's JSON says, before it is checked.
    """

    def __init__(self, request: Request, value: object) -> None:
        # The value is JSON, whatever the client called it.
        headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self.value = value

    async def body(self) -> bytes:
        """Stand-in for the body, whose bytes are not kept."""
        # Not empty, so that json is asked.
        return b"{}"

    async def json(self) -> object:
        """The value."""
        return self.value


def stack_of(error: BaseException) -> list[str]:
    """Where an error was raised, outermost first: no text of it, and no lines of source."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def as_refusal(error: Exception) -> Refused:
    """Meaning of an error of any kind for a client."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RequestValidationError):
        return InvalidRequest(
            [WrongField(tuple(e["loc"]), e["msg"], e["type"]) for e in error.errors()]
        )
    if isinstance(error, InputError):
        problem = str(error).removeprefix(f"{error.argument}: ")
        return UnusableInput([WrongField(("body", error.argument), problem, "value_error")])
    if isinstance(error, RateLimitError):
        # The key is this service's own, and so is the limit.
        return TooManyRequests(
            "the service behind this one asks to slow down; send it again later",
            retry_after=error.retry_after or 1.0,
        )
    if isinstance(error, RequestTimeoutError):
        return DeadlineExceeded(
            "the service behind this one did not answer in time; send fewer documents at a time, "
            "or later",
            retry_after=1.0,
        )
    # Of errors that are not ours only the kind and the place: their texts may quote a client's.
    said = str(error) if isinstance(error, RerankError) else ""
    logger.error(
        "failed",
        extra={
            "error": type(error).__name__,
            "message_of_error": said,
            "stack": stack_of(error),
        },
    )
    return InternalFailure("the service failed; its log says why, under this request id")
