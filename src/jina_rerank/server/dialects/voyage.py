"""Voyage AI's dialect: `POST /voyage/v1/rerank`.

Voyage's SDK sends requests to this path with `base_url="http://host:8000/voyage/v1"`. The original
path, `/v1/rerank`, is that of Jina's dialect. Differences from Voyage's service: `usage` counts the
query once for each document, and `model` is optional.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from ..._inputs import renamed_errors
from ...ranking import Ranking
from ..dialect import RankJob, guarded_router, long_documents_of
from ..engine import Engine
from ..refusals import InvalidRequest, Refused, TooLong
from ._errors import documented, error_response

NAMES = {"long_documents": "truncation", "top_n": "top_k"}
"""The dialect's names of the engine's options, for errors."""


class VoyageRerankRequest(BaseModel):
    """A query and its candidate documents.

    Attributes:
        model: Name of a served model; default: the first one.
        query: Text of the query.
        documents: Candidate documents, at least one.
        top_k: Maximum number of results; default: all documents.
        return_documents: True to return the documents.
        truncation: False to refuse texts that are too long; by default they are truncated.
    """

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "query": "How should I store coffee beans?",
                    "documents": ["Espresso wants a fine grind.", "Keep beans in a jar."],
                    "top_k": 1,
                }
            ]
        },
    )

    model: str | None = None
    query: str
    documents: list[str] = Field(min_length=1, fail_fast=True)
    top_k: int | None = Field(None, ge=1)
    return_documents: bool | None = None
    truncation: bool | None = None


class VoyageResult(BaseModel):
    """One ranked document; `index` is its position in the request, from 0."""

    index: int
    relevance_score: float
    document: str | None = None


class VoyageUsage(BaseModel):
    """Tokens that the model read; query and special tokens count once for each document."""

    total_tokens: int


class VoyageRerankResponse(BaseModel):
    """The ranked documents, best first."""

    object: Literal["list"] = "list"
    data: list[VoyageResult]
    model: str
    usage: VoyageUsage


class VoyageError(BaseModel):
    """Error response."""

    detail: str


class Voyage:
    """`POST /voyage/v1/rerank`; see `Dialect`."""

    def router(self, engine: Engine) -> APIRouter:
        """Return the route; see `Dialect.router`."""
        router = guarded_router(engine, _answer)

        @router.post(
            "/voyage/v1/rerank",
            tags=["Voyage"],
            summary="Rank documents, as Voyage's API does",
            operation_id="voyage_rerank",
            response_model_exclude_none=True,
            responses=documented(VoyageError),
        )
        async def rerank(asked: VoyageRerankRequest, request: Request) -> VoyageRerankResponse:
            wanted = long_documents_of(asked.truncation)
            job = RankJob(asked.model, asked.query, asked.documents, asked.top_k, wanted)
            with renamed_errors(lambda name: NAMES.get(name, name)):
                ranking = await engine.rank(job, request)
            return _response(asked, ranking)

        return router


def _response(asked: VoyageRerankRequest, ranking: Ranking) -> VoyageRerankResponse:
    return VoyageRerankResponse(
        data=[
            VoyageResult(
                index=hit.index,
                relevance_score=hit.score,
                document=hit.text if asked.return_documents else None,
            )
            for hit in ranking
        ],
        model=ranking.model,
        usage=VoyageUsage(total_tokens=ranking.usage.tokens or 0),
    )


def _answer(refused: Refused, request: Request) -> Response:
    status = 400 if isinstance(refused, InvalidRequest | TooLong) else refused.status
    return error_response(VoyageError(detail=refused.message), status)
