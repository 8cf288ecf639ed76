"""The interface between the engine and the dialects, which are APIs for clients."""

from __future__ import annotations

import logging
import math
import re
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from ..errors import (
    InputError,
    RateLimitError,
    RequestTimeoutError,
    RerankError,
    ServiceError,
)
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
"""Function that builds a dialect's response for a refusal."""

CountDocuments = Callable[[object], int]
"""Function that counts the documents of a body, before anything in it has been validated."""

FORM = "as "
"""Prefix of the tags of pydantic's unions, which distinguish the forms of a value. Paths of fields
do not contain them, since clients do not know them."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
"""A code or an id of another service; a longer or another text may quote a request."""


@dataclass(frozen=True, slots=True)
class RankJob:
    """A request to rank documents, in terms common to all dialects.

    Attributes:
        model: A served name; None for the first served model.
        query: The question.
        documents: The candidates, as strings.
        top_n: Number of documents to return; None for all.
        long_documents: See `ScoreRequest`; None for the model's default.
        max_document_tokens: See `ScoreRequest`.
        threshold: Minimum score of returned documents; None for all.
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
        requests: The queries with their documents, at least one. The dialect has checked the texts,
            since its errors use its own names of the fields.
    """

    model: str | None
    requests: Sequence[ScoreRequest]


def long_documents_of(truncation: bool | None) -> LongDocuments | None:
    """Convert the boolean `truncation` of many services to the option of `ScoreRequest`."""
    if truncation is None:
        return None
    return "truncate" if truncation else "error"


class Dialect(Protocol):
    """An API for rankings, with its own paths, fields and errors."""

    def router(self, engine: Engine) -> APIRouter:
        """Return the routes of the dialect, in a router of `guarded_router`."""
        ...


def guarded_router(
    engine: Engine, answer: AnswerRefusal, count: CountDocuments | None = None
) -> APIRouter:
    """Create a router for a dialect's routes.

    Each route checks the key, reads the body within the limits, and answers errors by `answer`: a
    `Refused`, a `RerankError`, a body that does not fit the route's model, and any other error as
    `InternalFailure`. Lists in such a model need `fail_fast`, without which a million wrong items
    would become a million errors.

    Args:
        engine: The engine, with its keys and limits.
        answer: Function that builds the dialect's error responses.
        count: Function that counts the documents of a body, for a dialect whose documents may be
            objects: their validation would block the event loop for seconds if there were hundreds
            of thousands. None to leave the check to `Engine.rank`.
    """

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    # Before the body is read, so that requests without a key cost little.
                    engine.authorize(request)
                    if request.method != "POST":
                        return await handle(request)
                    with engine.bodies.body() as add:
                        value = await read_json(request, engine.settings, add)
                        # Under the same name, since an error's answer may depend on the body.
                        request = ReadRequest(request, value)
                        if count is not None:
                            engine.check_count(count(value))
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
        value: Value of the body's JSON, before it is validated.
    """

    def __init__(self, request: Request, value: object) -> None:
        # FastAPI parses JSON only with this type; the body has been parsed as JSON already.
        headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
        headers.append((b"content-type", b"application/json"))
        super().__init__({**request.scope, "headers": headers}, request.receive)
        self.value = value

    async def body(self) -> bytes:
        """Return a placeholder for the body, whose bytes are not kept."""
        # Not empty, so that FastAPI calls json().
        return b"{}"

    async def json(self) -> object:
        """Return the value of the body's JSON."""
        return self.value


def stack_of(error: BaseException) -> list[str]:
    """List the places of an error's stack, outermost first, without its text or source lines."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def as_refusal(error: Exception) -> Refused:
    """Convert an error of any type to a refusal, and log errors of the service."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, RequestValidationError):
        return InvalidRequest(
            [WrongField(_without_forms(e["loc"]), e["msg"], e["type"]) for e in error.errors()]
        )
    if isinstance(error, InputError):
        return UnusableInput([_wrong_input(error)])
    if isinstance(error, RateLimitError):
        # Both the key and the limit are this service's, not the client's.
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
    said = ""
    if isinstance(error, ServiceError):
        said = summary(error)
    elif isinstance(error, RerankError):
        said = str(error)
    # Only type and place of errors that are not ours: their texts may quote the client's.
    logger.error(
        "failed",
        extra={
            "error": type(error).__name__,
            "message_of_error": said,
            "stack": stack_of(error),
        },
    )
    return InternalFailure("the service failed; its log says why, under this request id")


def summary(error: ServiceError) -> str:
    """Describe another service's error without its texts, which may quote a client's request."""
    facts = {"status": error.status, "code": error.code, "request id": error.request_id}
    known = {name: str(fact) for name, fact in facts.items() if fact is not None}
    said = [f"{name} {fact}" for name, fact in known.items() if _IDENTIFIER.fullmatch(fact)]
    return ", ".join(said) or "no answer"


def _wrong_input(error: InputError) -> WrongField:
    if isinstance(error, ServiceError):
        problem = f"the service behind this one refused it: {summary(error)}"
        return WrongField(("body",), problem, "value_error")
    return WrongField(("body", *_path_of(error.argument)), error.problem, "value_error")


def _without_forms(place: Sequence[str | int]) -> tuple[str | int, ...]:
    return tuple(part for part in place if isinstance(part, int) or not part.startswith(FORM))


def _path_of(argument: str) -> tuple[str | int, ...]:
    """Convert the name of an argument to the path of a field: `documents[3].text`."""
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", argument)
    return tuple(int(index) if index else name for index, name in parts)
