"""The dialect of Hugging Face's text-embeddings-inference 1.8: `POST /rerank` and `GET /info`.

The response is a list with all documents, best first. Differences from the original: the model is
always the first served one, as there is no field for it; documents are truncated on the right only;
a request may have more than 32 texts.

Other services, such as vLLM, infinity and llama.cpp, have the same path. A request with `documents`
instead of `texts` is therefore treated as one in Jina's dialect, and answered in it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ... import __version__
from ..._inputs import renamed_errors
from ...ranking import RankedDocument
from ..dialect import FORM, RankJob, ReadRequest, guarded_router, long_documents_of
from ..engine import Engine
from ..refusals import (
    DeadlineExceeded,
    Draining,
    InternalFailure,
    InvalidRequest,
    Refused,
    TooLarge,
    TooLong,
    TooManyRequests,
    UnusableInput,
    WrongField,
)
from ._documents import count_items
from ._errors import documented, error_response
from .jina import JinaError, RerankRequest, RerankResponse, rank_as_jina
from .jina import refusal as refusal_as_jina

LITELLM = "litellm/"
"""Prefix of LiteLLM's user agent."""

ErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class TeiRerankRequest(BaseModel):
    """A query and its candidate texts.

    Attributes:
        query: Text of the query.
        texts: Candidate texts.
        raw_scores: True to return logits instead of their sigmoids.
        return_text: True to return the texts.
        truncate: False to refuse texts that are too long; by default they are truncated.
        truncation_direction: Side to truncate; only the right one is supported.
    """

    model_config = ConfigDict(strict=True)

    query: str
    texts: list[str] = Field(fail_fast=True)
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool | None = None
    # TEI's documentation has the default in lower case and the choices in upper case.
    truncation_direction: Literal["Right", "right", "Left", "left"] = "Right"


TEI, JINA = f"{FORM}TEI does", f"{FORM}Jina does"


def _dialect_of(body: object) -> str:
    """Return the tag of a body's dialect; TEI itself ignores unknown fields."""
    known = isinstance(body, dict) and "documents" in body and "texts" not in body
    return JINA if known else TEI


def _count(body: object) -> int:
    return count_items(body, "documents" if _dialect_of(body) == JINA else "texts")


TeiOrJinaRequest = Annotated[
    Annotated[TeiRerankRequest, Tag(TEI)] | Annotated[RerankRequest, Tag(JINA)],
    Discriminator(_dialect_of),
]


class TeiRank(BaseModel):
    """One ranked text; `index` is its position in the request, from 0."""

    index: int
    score: float
    text: str | None = None


class TeiError(BaseModel):
    """Error response."""

    error: str
    error_type: ErrorType


class TeiLabels(BaseModel):
    """Labels of a reranker, whose only class is its score."""

    id2label: dict[str, str] = {"0": "LABEL_0"}
    label2id: dict[str, int] = {"LABEL_0": 0}


class TeiModelType(BaseModel):
    """Type of the model."""

    reranker: TeiLabels = TeiLabels()


class TeiInfo(BaseModel):
    """The model and the service's limits, in text-embeddings-inference's fields.

    Attributes:
        model_id: Name of the first served model.
        model_sha: Always None; the model's revision is not reported.
        model_dtype: `"auto"`: the data type is chosen when the model is loaded.
        model_type: Type of the model, a reranker.
        max_concurrent_requests: Number of pairs of maximum length that may wait; more if they are
            shorter.
        max_input_length: Maximum tokens of a pair.
        max_batch_tokens: Maximum tokens in a request, estimated.
        max_batch_requests: Always None; batches are limited by tokens.
        max_client_batch_size: Maximum number of texts in a request.
        auto_truncate: Always true: texts that are too long are truncated, unless a request forbids
            it.
        tokenization_workers: Number of tokenization workers.
        version: Version of this package.
        sha: Always None.
        docker_label: Always None.
    """

    model_id: str
    model_sha: None = None
    model_dtype: str = "auto"
    model_type: TeiModelType = TeiModelType()
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: None = None
    max_client_batch_size: int
    auto_truncate: bool = True
    tokenization_workers: int = 1
    version: str = __version__
    sha: None = None
    docker_label: None = None


class _NoTexts(Refused):
    status = 400
    code = "Empty"


class Tei:
    """`POST /rerank` and `GET /info`; see `Dialect`."""

    def router(self, engine: Engine) -> APIRouter:
        """Return the routes; see `Dialect.router`."""
        router = guarded_router(engine, _answer, _count)

        @router.post(
            "/rerank",
            tags=["text-embeddings-inference"],
            summary="Rank texts, as text-embeddings-inference does, or documents, as Jina does",
            operation_id="tei_rerank",
            response_model=list[TeiRank] | RerankResponse,
            response_model_exclude_none=True,
            responses=documented(TeiError | JinaError),
        )
        async def rerank(
            asked: TeiOrJinaRequest, request: Request, response: Response
        ) -> list[TeiRank] | Response:
            if isinstance(asked, TeiRerankRequest):
                return await _rank(engine, asked, request, response)
            ranking = await rank_as_jina(engine, asked, request)
            if request.headers.get("user-agent", "").startswith(LITELLM):
                _make_plain(ranking)
            return JSONResponse(ranking)

        @router.get(
            "/info",
            tags=["text-embeddings-inference"],
            summary="Show the first model and the limits, as text-embeddings-inference does",
            operation_id="tei_info",
            responses={status: {"model": TeiError} for status in (401, 421)},
        )
        async def info() -> TeiInfo:
            settings = engine.settings
            longest = engine.max_tokens(engine.served[0])
            return TeiInfo(
                model_id=engine.models[0],
                max_concurrent_requests=max(1, settings.max_queued_tokens // longest),
                max_input_length=longest,
                max_batch_tokens=settings.max_request_tokens,
                max_client_batch_size=settings.max_documents,
            )

        return router


async def _rank(
    engine: Engine, asked: TeiRerankRequest, request: Request, response: Response
) -> list[TeiRank]:
    if not asked.texts:
        raise _NoTexts("`texts` cannot be empty")
    if asked.truncation_direction in {"Left", "left"}:
        raise _wrong("truncation_direction", "texts are cut on the right only")
    wanted = long_documents_of(asked.truncate)
    job = RankJob(None, asked.query, asked.texts, long_documents=wanted)
    with renamed_errors(lambda name: "truncate" if name == "long_documents" else name):
        ranking = await engine.rank(job, request)
    characters = sum(len(asked.query) + len(text) for text in asked.texts)
    response.headers["x-compute-characters"] = str(characters)
    if ranking.usage.tokens is not None:
        response.headers["x-compute-tokens"] = str(ranking.usage.tokens)
    return [
        TeiRank(
            index=hit.index,
            score=_logit(hit) if asked.raw_scores else hit.score,
            text=hit.text if asked.return_text else None,
        )
        for hit in ranking
    ]


def _make_plain(ranking: dict[str, Any]) -> None:
    """Change an answer in Jina's dialect so that both of LiteLLM's parsers accept it.

    LiteLLM's providers `hosted_vllm/` and `infinity/` send the same request to this path. The first
    fails on documents that are strings, as in infinity's answers, the second on documents that are
    objects, as in vLLM's. Both accept answers without documents. They count the difference of
    `total_tokens` and `prompt_tokens` as output tokens.
    """
    for result in ranking["results"]:
        result.pop("document", None)
    ranking["usage"]["prompt_tokens"] = ranking["usage"]["total_tokens"]


def _logit(hit: RankedDocument) -> float:
    if hit.logit is None:
        raise _wrong("raw_scores", "the model here tells no raw scores")
    return hit.logit


def _wrong(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([WrongField(("body", field), message, "value_error")])


def _answer(refused: Refused, request: Request) -> Response:
    # Before a body has been read its dialect is unknown, and TEI's is used.
    if isinstance(request, ReadRequest) and _dialect_of(request.value) == JINA:
        return refusal_as_jina(refused, request)
    # TEI's statuses: 424 for a failed model, 422 for a text that is too long.
    status = {InternalFailure: 424, TooLong: 422}.get(type(refused), refused.status)
    message = refused.message
    if isinstance(refused, UnusableInput | TooLong | TooLarge):  # the message names the field
        message = message.replace("documents", "texts", 1)
    error = TeiError(error=message, error_type=_error_type(refused))
    return error_response(error, status)


def _error_type(refused: Refused) -> ErrorType:
    match refused:
        case TooManyRequests():
            return "Overloaded"
        case InternalFailure() | DeadlineExceeded():
            return "Backend"
        case Draining():
            return "Unhealthy"
        case _NoTexts():
            return "Empty"
        case _:
            return "Validation"
