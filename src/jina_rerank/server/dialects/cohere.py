"""Cohere's dialect, version 2: `POST /v2/rerank`, as its SDK 7.3 sends it.

Version 1 is not supported, since its path is that of Jina's dialect. Differences from Cohere's
service: without `max_tokens_per_doc` a document is read up to the model's maximum and not to 4,096
tokens; fields of other models, such as `relevant_spans` and `priority`, are ignored.
"""

from __future__ import annotations

import math

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from ..._inputs import renamed_errors
from ...ranking import Ranking
from ..dialect import RankJob, guarded_router
from ..engine import Engine
from ..refusals import InvalidRequest, Refused, TooLong, UnknownModel
from ._errors import documented, error_response

DOCUMENTS_PER_SEARCH_UNIT = 100
"""Maximum documents of Cohere's billing unit, which is a query with up to this many documents."""


class CohereRerankRequest(BaseModel):
    """A query and its candidate documents.

    Attributes:
        model: Name of a served model.
        query: Text of the query.
        documents: Candidate documents, at least one.
        top_n: Maximum number of results; default: all documents.
        max_tokens_per_doc: Maximum number of tokens that are read from each document; default: the
            model's maximum.
        return_documents: True to return the documents. Cohere's own version 2 no longer has this
            field, but LiteLLM sends it.
    """

    model_config = ConfigDict(strict=True)

    model: str
    query: str
    documents: list[str] = Field(min_length=1, fail_fast=True)
    top_n: int | None = Field(None, ge=1)
    max_tokens_per_doc: int | None = Field(None, ge=1)
    return_documents: bool | None = None


class CohereDocument(BaseModel):
    """A returned document."""

    text: str


class CohereResult(BaseModel):
    """One ranked document; `index` is its position in the request, from 0."""

    index: int
    relevance_score: float
    document: CohereDocument | None = None


class CohereApiVersion(BaseModel):
    """Version of Cohere's API."""

    version: str = "2"


class CohereBilledUnits(BaseModel):
    """Billing units, as Cohere counts them; this service bills nothing."""

    search_units: int


class CohereTokens(BaseModel):
    """Tokens that the model read; query and special tokens count once for each document."""

    input_tokens: int


class CohereMeta(BaseModel):
    """Usage, and warnings about truncated texts, a degraded ranking or another model."""

    api_version: CohereApiVersion = CohereApiVersion()
    billed_units: CohereBilledUnits
    tokens: CohereTokens | None = None
    warnings: list[str] | None = None


class CohereRerankResponse(BaseModel):
    """The ranked documents, best first."""

    id: str
    results: list[CohereResult]
    meta: CohereMeta


class CohereError(BaseModel):
    """Error response."""

    id: str
    message: str


class Cohere:
    """`POST /v2/rerank`; see `Dialect`."""

    def router(self, engine: Engine) -> APIRouter:
        """Return the route; see `Dialect.router`."""
        router = guarded_router(engine, _answer)

        @router.post(
            "/v2/rerank",
            tags=["Cohere"],
            summary="Rank documents, as Cohere's API does",
            operation_id="cohere_rerank",
            response_model_exclude_none=True,
            responses=documented(CohereError),
        )
        async def rerank(asked: CohereRerankRequest, request: Request) -> CohereRerankResponse:
            # Without top_n, since the warnings are about all documents.
            limit = asked.max_tokens_per_doc
            job = RankJob(asked.model, asked.query, asked.documents, max_document_tokens=limit)
            with renamed_errors(
                lambda name: "max_tokens_per_doc" if name == "max_document_tokens" else name
            ):
                ranking = await engine.rank(job, request)
            return _response(asked, ranking, request.state.request_id)

        return router


def _response(
    asked: CohereRerankRequest, ranking: Ranking, request_id: str
) -> CohereRerankResponse:
    tokens = ranking.usage.tokens
    units = math.ceil(len(asked.documents) / DOCUMENTS_PER_SEARCH_UNIT)
    return CohereRerankResponse(
        id=request_id,
        results=[
            CohereResult(
                index=hit.index,
                relevance_score=hit.score,
                document=CohereDocument(text=asked.documents[hit.index])
                if asked.return_documents
                else None,
            )
            for hit in ranking[: asked.top_n]
        ],
        meta=CohereMeta(
            billed_units=CohereBilledUnits(search_units=units),
            tokens=None if tokens is None else CohereTokens(input_tokens=tokens),
            warnings=_warnings(ranking, asked.model) or None,
        ),
    )


def _warnings(ranking: Ranking, model: str) -> list[str]:
    found = {
        "documents that were cut to what the model reads": ranking.usage.truncated_documents,
        "tokens that were cut off the query": ranking.usage.truncated_query_tokens,
    }
    warnings = [f"{what}: {count:,}" for what, count in found.items() if count]
    if ranking.degraded is not None:
        warnings.append(f"the answer is degraded: {ranking.degraded}")
    elif ranking.model != model:  # see Settings.any_model; the answer has no field for it
        warnings.append(
            f"the model that was asked for is not served here: {ranking.model} answered"
        )
    return warnings


def _answer(refused: Refused, request: Request) -> Response:
    error = CohereError(id=request.state.request_id, message=refused.message)
    return error_response(error, _status(refused))


def _status(refused: Refused) -> int:
    if isinstance(refused, InvalidRequest | TooLong):
        return 400
    return 404 if isinstance(refused, UnknownModel) else refused.status
