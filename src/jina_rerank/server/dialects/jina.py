"""Jina's dialect: `POST /v1/rerank` and `GET /v1/models`, as in the hosted service.

`/reranking` and `/v1/reranking` are llama.cpp's names of the same route; `/rerank` is in tei.py.

The contract (hosted OpenAPI, version 2026.04.02): scores have eight decimals; a document is
returned as it was sent, a string as a string and an object as an object; fields that were not
requested are left out and not null; usage has `total_tokens` only.
"""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse

from ..._inputs import renamed_errors
from ...errors import InputError
from ...ranking import Ranking
from ...scorers.base import LongDocuments
from ..dialect import RankJob, guarded_router, long_documents_of
from ..engine import Engine
from ..refusals import (
    InternalFailure,
    InvalidRequest,
    Refused,
    TooLong,
    UnknownModel,
)
from ..served import ServedModel
from ._documents import AnyDocument, AnyText, Document, count_items, texts_of

PATHS = {
    "/v1/rerank": "jina_rerank",
    "/v1/reranking": "jina_v1_reranking",
    "/reranking": "jina_reranking",
}
"""Paths of rankings, with their operation ids in OpenAPI."""

DECIMALS = 8
"""Decimals of a score, as in the hosted service's answers."""


EXAMPLES: list[JsonValue] = [
    {
        "query": "How should I store coffee beans?",
        "documents": ["Espresso wants a fine grind.", "Coffee beans keep best in a jar."],
        "top_n": 1,
        "threshold": 0.5,
    },
    {
        "query": "How should I store coffee beans?",
        "documents": [{"title": "Storing", "body": "Coffee beans keep best in a jar.", "id": 7}],
        "rank_fields": ["title", "body"],
    },
    {
        "query": "How should I store coffee beans?",
        "documents": ["A long document, of which each window is read."],
        "long_documents": "chunk",
        "max_doc_length": 4096,
    },
    {
        "query": "How should I store coffee beans?",
        "documents": ["Coffee beans keep best in a jar.", "A coffee jar, 9.99."],
        "instruction": "A document is relevant if it gives advice, and not if it is for sale.",
    },
]
"""Examples of requests for OpenAPI."""


class RerankRequest(BaseModel):
    """A query and its candidate documents. Unknown fields are ignored."""

    model_config = ConfigDict(strict=True, json_schema_extra={"examples": EXAMPLES})

    model: str | None = Field(None, description="Name of a served model; default: the first one.")
    query: Annotated[AnyText, Field(description="The question, also as an object with `text`.")]
    documents: Annotated[
        list[AnyDocument],
        Field(
            min_length=1,
            fail_fast=True,
            description="The candidates: strings, or objects with `text` or the `rank_fields`.",
        ),
    ]
    rank_fields: Annotated[list[str], Field(min_length=1, max_length=100)] | None = Field(
        None,
        description="Fields that are read from documents that are objects, one per line, in this "
        "order; default: `text`. A field that a document lacks is skipped; a document with none of "
        "them is refused.",
    )
    top_n: int | None = Field(
        None, ge=1, description="Maximum number of results; default: all documents."
    )
    threshold: float | None = Field(
        None,
        description="Minimum score of a result, so there may be no results. By default all scores "
        "are returned. An extension of Jina's API.",
    )
    return_documents: bool | None = Field(
        None, description="True to return the documents; default: true."
    )
    truncation: bool | None = Field(
        None,
        description="True, the default, truncates texts that are too long; false refuses them.",
    )
    long_documents: LongDocuments | None = Field(
        None,
        description="Treatment of documents that are too long, with more choices than "
        "`truncation`: `truncate` reads their beginnings, `chunk` reads them in windows and takes "
        "the best window's score, `error` refuses them.",
    )
    max_doc_length: int | None = Field(
        None,
        ge=1,
        description="Maximum number of tokens that are read from each document; default: the "
        "model's maximum.",
    )
    instruction: str | None = Field(
        None,
        description="Description of what makes a document relevant. Models whose template has a "
        "place for it use it instead of their default. Other models refuse the request, or ignore "
        "the field if the service is configured to.",
    )


class RerankUsage(BaseModel):
    """Token usage of a request."""

    total_tokens: int = Field(
        description="Number of tokens computed; the query counts once for each document."
    )


class RerankResult(BaseModel):
    """One ranked document."""

    index: int
    relevance_score: float
    document: str | Document | None = Field(None, description="The document as it was sent.")


class RerankResponse(BaseModel):
    """The ranked documents, best first."""

    model: str
    object: Literal["list"] = "list"
    usage: RerankUsage
    results: list[RerankResult]
    degraded: str | None = Field(
        None,
        description="Reason why the scores are not those of the requested model; absent if they "
        "are. The threshold does not apply to such a degraded response. An extension of Jina's "
        "API.",
    )
    ignored: list[str] | None = Field(
        None,
        description="Fields of the request that had no effect on this model; absent if there are "
        "none. An extension of Jina's API.",
    )


class Model(BaseModel):
    """A served model and its properties; unknown properties are null."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    context_length: int = Field(
        description="`max_tokens` if it is known, otherwise the service's limit."
    )
    max_tokens: int | None = Field(
        None,
        description="Maximum tokens of a query with a document; null if the model is not loaded.",
    )
    family: str | None = Field(
        None, description="Model family; null if the model does not run natively."
    )
    dtype: str | None = Field(None, description="Data type of the computation.")
    window: int | None = Field(
        None,
        description="Maximum distance of attention to either side, in tokens, where it is limited.",
    )
    runs_here: bool = Field(description="False if another service computes the scores.")
    answers_any_name: bool = Field(
        description="True if the model answers requests for models that are not served."
    )


class Models(BaseModel):
    """All served models."""

    object: Literal["list"] = "list"
    data: list[Model]


class JinaError(BaseModel):
    """Error response; `detail` is a string, or an object with message, code and request_id."""

    detail: Any
    errors: list[dict[str, Any]] | None = Field(
        None, description="The fields that cannot be used, each with `field`, `message` and `type`."
    )
    code: str | None = None
    request_id: str | None = None


class Jina:
    """Jina's dialect."""

    def router(self, engine: Engine) -> APIRouter:
        """Return the routes; see `Dialect.router`."""
        router = guarded_router(engine, refusal, lambda body: count_items(body, "documents"))
        started = int(time.time())

        async def rerank(body: RerankRequest, request: Request) -> JSONResponse:
            return JSONResponse(await rank_as_jina(engine, body, request))

        for path, operation in PATHS.items():
            router.post(
                path,
                response_model=RerankResponse,
                responses={
                    status: {"model": JinaError}
                    for status in (400, 401, 408, 413, 415, 421, 422, 429, 500, 503, 504)
                },
                summary="Rank documents by their relevance to a query",
                operation_id=operation,
            )(rerank)

        @router.get(
            "/v1/models",
            response_model=Models,
            responses={status: {"model": JinaError} for status in (401, 421)},
            summary="List the served models",
            operation_id="jina_models",
        )
        async def models() -> Models:
            return Models(data=[_describe(engine, model, started) for model in engine.served])

        @router.get(
            "/v1/models/{model_id:path}",
            response_model=Model,
            responses={status: {"model": JinaError} for status in (401, 404, 421, 422)},
            summary="Describe a served model",
            operation_id="jina_model",
        )
        async def model(model_id: str) -> Model:
            try:
                found = engine.find(model_id)
            except UnknownModel as unknown:
                raise _ModelNotFound(unknown.message) from None
            return _describe(engine, found, started)

        return router


class _ModelNotFound(UnknownModel):
    """A path whose model is not served, with the status that OpenAI's clients expect."""

    status = 404


def _describe(engine: Engine, model: ServedModel, started: int) -> Model:
    facts = model.facts
    return Model(
        id=model.name,
        created=started,
        owned_by="jina-rerank",
        context_length=engine.max_tokens(model),
        max_tokens=None if facts is None else facts.max_tokens,
        family=None if facts is None else facts.family,
        dtype=None if facts is None else facts.dtype,
        window=None if facts is None else facts.window,
        runs_here=model.runs_here,
        answers_any_name=engine.settings.any_model and model is engine.served[0],
    )


async def rank_as_jina(engine: Engine, body: RerankRequest, request: Request) -> dict[str, Any]:
    """Rank, and return the response in this dialect.

    Args:
        engine: The engine.
        body: The request's body.
        request: The HTTP request.

    Raises:
        RerankError: As `Engine.rank`.
        Refused: As `Engine.rank`.
    """
    # In a thread, since fields and metadata may have megabytes.
    texts = await asyncio.to_thread(
        texts_of, body.documents, body.rank_fields, returned=body.return_documents is not False
    )
    job = RankJob(
        body.model,
        body.query if isinstance(body.query, str) else body.query.text,
        texts,
        body.top_n,
        _long_documents(body),
        body.max_doc_length,
        body.threshold,
        body.instruction,
    )
    names = {"max_document_tokens": "max_doc_length"}
    if body.long_documents is None:
        names["long_documents"] = "truncation"
    with renamed_errors(lambda name: names.get(name, name)):
        answer = _answer(await engine.rank(job, request), body)
    ignored = getattr(request.state, "ignored", None)
    return answer if ignored is None else {**answer, "ignored": ignored}


def refusal(refused: Refused, request: Request) -> JSONResponse:
    """Build the response for a refusal, in the three formats of the hosted service.

    Errors of limits and keys are flat; errors of the application are an object in `detail`; invalid
    fields are listed under `errors`.
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


def _long_documents(body: RerankRequest) -> LongDocuments | None:
    by_truncation = long_documents_of(body.truncation)
    if body.long_documents is None or by_truncation is None:
        return body.long_documents or by_truncation
    # False in `truncation` means to refuse long documents, as "error" does.
    if (by_truncation == "error") != (body.long_documents == "error"):
        raise InputError("truncation", "contradicts long_documents; send one of them")
    return body.long_documents


def _answer(ranking: Ranking, body: RerankRequest) -> dict[str, Any]:
    results: list[dict[str, Any]] = []
    for hit in ranking:
        result: dict[str, Any] = {
            "index": hit.index,
            "relevance_score": round(hit.score, DECIMALS),
        }
        if body.return_documents is not False:
            sent = body.documents[hit.index]
            result["document"] = sent if isinstance(sent, str) else sent.root
        results.append(result)
    answer: dict[str, Any] = {
        "model": ranking.model,
        "object": "list",
        "usage": {"total_tokens": ranking.usage.tokens or 0},
        "results": results,
    }
    return answer if ranking.degraded is None else {**answer, "degraded": ranking.degraded}
