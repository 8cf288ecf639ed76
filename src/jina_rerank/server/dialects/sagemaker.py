"""Amazon SageMaker's requests to a container, as in Jina's containers: `/ping`, `/invocations`.

The body is that of Jina's containers on the marketplace: `data` is an object for v1, v2 and
colbert, and a list of such objects for m0 and later; the response's `data` is always a list. The
model is the first served one, as there is no field for it. SageMaker sends no key, so a container
must not require one.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.requests import Request
from starlette.responses import Response

from ..._inputs import renamed_errors
from ...ranking import Ranking
from ..dialect import FORM, RankJob, guarded_router
from ..engine import Engine
from ..refusals import DeadlineExceeded, Refused
from ._documents import AnyText, count_items
from ._errors import documented, error_response

LONGEST = 58.0
"""Maximum seconds for one invocation, if the engine's deadline is longer. SageMaker times out after
60 seconds, with a less helpful error for the client."""


class SageMakerQuery(BaseModel):
    """One query with its candidate documents.

    Attributes:
        query: Text of the query.
        documents: Candidate documents, at least one; each an object or a string.
        top_n: Maximum number of results; default: all documents.
    """

    model_config = ConfigDict(strict=True)

    query: str
    documents: list[AnyText] = Field(min_length=1, fail_fast=True)
    top_n: int | None = Field(None, ge=1)


ONE, LIST = f"{FORM}one query", f"{FORM}a list"


def _form_of(data: object) -> str:
    """Return the tag of a value's form, so that errors are about this form only."""
    return LIST if isinstance(data, list) else ONE


class SageMakerRequest(BaseModel):
    """The body of an invocation: one query, or a list of queries."""

    model_config = ConfigDict(strict=True)

    data: Annotated[
        Annotated[SageMakerQuery, Tag(ONE)]
        | Annotated[list[SageMakerQuery], Field(min_length=1, fail_fast=True), Tag(LIST)],
        Discriminator(_form_of),
    ]


class SageMakerUsage(BaseModel):
    """Number of tokens; `id` is the request's, present only if `data` was an object."""

    id: str | None = None
    total_tokens: int


class SageMakerDocument(BaseModel):
    """A document as it was sent."""

    id: str | None = None
    text: str


class SageMakerResult(BaseModel):
    """One ranked document; `index` is its position in the request, from 0."""

    id: str | None = None
    index: int
    document: SageMakerDocument
    relevance_score: float
    usage: SageMakerUsage | None = None


class SageMakerRanking(BaseModel):
    """The ranking for one query, best first.

    Attributes:
        id: The request's id; present only if `data` was an object.
        query_usage: Tokens of the query and the special tokens of a pair, counted once.
        docs_usage: Tokens of all documents, including documents that are not returned.
        results: The ranked documents.
    """

    id: str | None = None
    query_usage: SageMakerUsage | None = None
    docs_usage: SageMakerUsage | None = None
    results: list[SageMakerResult]


class SageMakerResponse(BaseModel):
    """One ranking for each query, in the same order."""

    data: list[SageMakerRanking]
    parameters: dict[str, Any] = {}


class SageMakerError(BaseModel):
    """Error response; SageMaker passes it on as `OriginalMessage`."""

    detail: str
    code: str
    request_id: str


class SageMaker:
    """`GET /ping` and `POST /invocations`; see `Dialect`.

    Args:
        longest: Maximum seconds for one invocation; a shorter deadline of the engine has priority.
    """

    def __init__(self, longest: float = LONGEST) -> None:
        self._longest = longest

    def router(self, engine: Engine) -> APIRouter:
        """Return the routes; see `Dialect.router`."""
        guarded = guarded_router(engine, _answer, _count)

        async def rank(name: str, query: SageMakerQuery, request: Request) -> Ranking:
            texts = [d if isinstance(d, str) else d.text for d in query.documents]
            with renamed_errors(lambda argument: f"{name}.{argument}"):
                # Without top_n, since the usage is that of all documents.
                return await engine.rank(RankJob(None, query.query, texts), request)

        @guarded.post(
            "/invocations",
            tags=["Amazon SageMaker"],
            summary="Rank documents, as Jina's containers do",
            operation_id="sagemaker_invocations",
            response_model_exclude_none=True,
            responses=documented(SageMakerError),
        )
        async def invocations(asked: SageMakerRequest, request: Request) -> SageMakerResponse:
            if isinstance(asked.data, list):
                named = {f"data[{i}]": query for i, query in enumerate(asked.data)}
                request_id = None
            else:
                named, request_id = {"data": asked.data}, request.state.request_id
            try:
                # One after the other, so that a long list takes one turn at a time among other
                # requests.
                async with asyncio.timeout(self._longest):
                    answers = [
                        _ranking(await rank(name, query, request), query.top_n, request_id)
                        for name, query in named.items()
                    ]
            except TimeoutError:
                raise DeadlineExceeded(
                    f"it took longer than {self._longest:g} s; send fewer documents at a time"
                ) from None
            return SageMakerResponse(data=answers)

        # Outside of the guard: health checks of a container have no key.
        router = APIRouter()
        router.include_router(guarded)

        @router.get(
            "/ping",
            tags=["Amazon SageMaker"],
            summary="Check that the service accepts invocations",
            operation_id="sagemaker_ping",
            response_class=Response,
            responses={
                200: {"description": "The service accepts invocations."},
                503: {"description": "The model is loading, or the container is shutting down."},
            },
        )
        async def ping() -> Response:
            return Response(status_code=200 if engine.ready else 503)

        return router


def _count(body: object) -> int:
    """Count the documents of the longest query, or the queries if there are more of them."""
    data = body.get("data") if isinstance(body, dict) else None
    queries = data if isinstance(data, list) else [data]
    return max(len(queries), *(count_items(query, "documents") for query in queries), 0)


def _ranking(ranking: Ranking, top_n: int | None, request_id: str | None) -> SageMakerRanking:
    query_tokens, document_tokens = _tokens(ranking)
    return SageMakerRanking(
        id=request_id,
        query_usage=_usage(query_tokens, request_id),
        docs_usage=_usage(document_tokens, request_id),
        results=[
            SageMakerResult(
                id=request_id,
                index=hit.index,
                document=SageMakerDocument(id=request_id, text=hit.text),
                relevance_score=round(hit.score, 8),  # as Jina's containers do
                usage=_usage(hit.tokens, request_id),
            )
            for hit in ranking[:top_n]
        ],
    )


def _tokens(ranking: Ranking) -> tuple[int | None, int | None]:
    """Return the tokens of the query, counted once, and of all documents.

    The computed tokens contain the query once for every document.
    """
    documents = sum(hit.tokens or 0 for hit in ranking)
    computed = ranking.usage.tokens
    if computed is None or any(hit.tokens is None for hit in ranking):
        return None, None
    return (computed - documents) // len(ranking), documents


def _usage(tokens: int | None, request_id: str | None) -> SageMakerUsage | None:
    return None if tokens is None else SageMakerUsage(id=request_id, total_tokens=tokens)


def _answer(refused: Refused, request: Request) -> Response:
    error = SageMakerError(
        detail=refused.message, code=refused.code, request_id=request.state.request_id
    )
    return error_response(error, refused.status)
