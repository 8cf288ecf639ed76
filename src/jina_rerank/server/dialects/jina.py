"""Jina's dialect: `POST /v1/rerank` and `GET /v1/models`, as the hosted service has them.

`/reranking` and `/v1/reranking` are llama.cpp's names of the same; `/rerank` is in tei.py.

Its contract (hosted OpenAPI, version 2026.04.02): scores have eight decimals; a document comes back
in the shape in which it was sent, a string as a string and an object as an object; what was not
asked for is left out and not null; usage holds `total_tokens` only.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse

from ...ranking import Ranking
from ..dialect import RankJob, guarded_router
from ..engine import Engine
from ..refusals import (
    InternalFailure,
    InvalidRequest,
    Refused,
    TooLong,
    UnknownModel,
)

PATHS = {
    "/v1/rerank": "jina_rerank",
    "/v1/reranking": "jina_v1_reranking",
    "/reranking": "jina_reranking",
}
"""Where rankings are asked for, with the operation's id in OpenAPI."""

DECIMALS = 8
"""Decimals of a score, as in the hosted service's answers."""


class Text(BaseModel):
    """A text in an object."""

    model_config = ConfigDict(strict=True)

    text: str


class RerankRequest(BaseModel):
    """A request. Fields that are not known here are ignored."""

    model_config = ConfigDict(strict=True)

    model: str | None = Field(None, description="A served model; the first one by default.")
    query: str | Text
    documents: Annotated[list[str | Text], Field(min_length=1, fail_fast=True)]
    top_n: int | None = Field(None, ge=1, description="How many to answer; all by default.")
    return_documents: bool | None = Field(None, description="True by default.")
    truncation: bool | None = Field(
        None, description="Whether texts that are too long are cut, true by default, or refused."
    )


class RerankUsage(BaseModel):
    """Cost of a request."""

    total_tokens: int = Field(
        description="Tokens computed: the query counts once for each document."
    )


class RerankResult(BaseModel):
    """One document of a ranking."""

    index: int
    relevance_score: float
    document: str | Text | None = Field(None, description="In the shape in which it was sent.")


class RerankResponse(BaseModel):
    """The documents, best first."""

    model: str
    object: Literal["list"] = "list"
    usage: RerankUsage
    results: list[RerankResult]


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_length: int


class Models(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[Model]


class JinaError(BaseModel):
    """Why there is no ranking: `detail` is a string, or an object with all three."""

    detail: Any
    code: str | None = None
    request_id: str | None = None


class Jina:
    """Jina's dialect."""

    def router(self, engine: Engine) -> APIRouter:
        """Its routes; see `Dialect.router`."""
        router = guarded_router(engine, refusal)
        started = int(time.time())

        async def rerank(body: RerankRequest, request: Request) -> JSONResponse:
            return JSONResponse(await rank_as_jina(engine, body, request))

        for path, operation in PATHS.items():
            router.post(
                path,
                response_model=RerankResponse,
                responses={
                    status: {"model": JinaError}
                    for status in (400, 401, 408, 413, 415, 422, 429, 500, 503, 504)
                },
                summary="Rank documents by their relevance to a query",
                operation_id=operation,
            )(rerank)

        @router.get(
            "/v1/models",
            response_model=Models,
            responses={401: {"model": JinaError}},
            summary="Show the models that are served",
            operation_id="jina_models",
        )
        async def models() -> Models:
            length = engine.settings.max_length
            return Models(
                data=[
                    Model(id=name, created=started, owned_by="jina-rerank", context_length=length)
                    for name in engine.models
                ]
            )

        return router


async def rank_as_jina(engine: Engine, body: RerankRequest, request: Request) -> dict[str, Any]:
    """A ranking in this dialect's words.

    Args:
        engine: What ranks.
        body: What is asked.
        request: Who asks.

    Raises:
        RerankError: As `Engine.rank`.
        Refused: As `Engine.rank`.
    """
    job = RankJob(
        body.model,
        _text(body.query),
        [_text(document) for document in body.documents],
        body.top_n,
        body.truncation,
    )
    return _answer(await engine.rank(job, request), body)


def refusal(refused: Refused, request: Request) -> JSONResponse:
    """A refusal as the hosted service's layers say it.

    Limits and keys answer flat; the application puts all into `detail`; fields that are wrong are
    listed under `errors`.
    """
    request_id = request.state.request_id
    body: dict[str, Any]
    if isinstance(refused, InvalidRequest):
        body = {
            "detail": f"Validation error: {refused.message}",
            "request_id": request_id,
            "errors": [
                {
                    "field": " -> ".join(map(str, field.path)),
                    "message": field.message,
                    "type": field.kind,
                    "input": None,
                }
                for field in refused.fields
            ],
        }
    elif isinstance(refused, UnknownModel | TooLong | InternalFailure):
        message = f"[RID: {request_id}] {refused.message}"
        body = {"detail": {"message": message, "request_id": request_id, "code": refused.code}}
    else:
        body = {"detail": refused.message, "code": refused.code, "request_id": request_id}
    headers = {"www-authenticate": "Bearer"} if refused.status == 401 else None
    return JSONResponse(body, refused.status, headers)


def _answer(ranking: Ranking, body: RerankRequest) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for hit in ranking:
        result: dict[str, Any] = {
            "index": hit.index,
            "relevance_score": round(hit.score, DECIMALS),
        }
        if body.return_documents is not False:
            as_sent = isinstance(body.documents[hit.index], str)
            result["document"] = hit.text if as_sent else {"text": hit.text}
        results.append(result)
    return {
        "model": ranking.model,
        "object": "list",
        "usage": {"total_tokens": ranking.usage.tokens or 0},
        "results": results,
    }


def _text(value: str | Text) -> str:
    return value if isinstance(value, str) else value.text
