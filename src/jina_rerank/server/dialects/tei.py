"""The dialect of Hugging Face's text-embeddings-inference 1.8: `POST /rerank`.

The answer is a bare list with all documents, best first. Differences to the original: `model` is
the first that is served, as there is no field for it; documents are cut on the right only; a
request may have more than 32 texts.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from ...ranking import RankedDocument
from ..dialect import RankJob, guarded_router
from ..engine import Engine
from ..refusals import (
    DeadlineExceeded,
    Draining,
    InternalFailure,
    InvalidRequest,
    Refused,
    TooLong,
    TooManyRequests,
    UnusableInput,
    WrongField,
)
from ._errors import documented, error_response

ErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class TeiRerankRequest(BaseModel):
    """A query and its candidates.

    Attributes:
        query: The question.
        texts: The candidates.
        raw_scores: Whether scores are logits instead of their sigmoids.
        return_text: Whether to send the texts back.
        truncate: False refuses texts that are too long; None and True cut them.
        truncation_direction: Which end is cut off; only the right one can be.
    """

    model_config = ConfigDict(strict=True)

    query: str
    texts: list[str] = Field(fail_fast=True)
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool | None = None
    # Its documentation has the default in lower case and the choices in upper case.
    truncation_direction: Literal["Right", "right", "Left", "left"] = "Right"


class TeiRank(BaseModel):
    """One text of the ranking; `index` is its place in the request."""

    index: int
    score: float
    text: str | None = None


class TeiError(BaseModel):
    """Why there is no ranking."""

    error: str
    error_type: ErrorType


class _NoTexts(Refused):
    status = 400
    code = "Empty"


class Tei:
    """`POST /rerank`; see `Dialect`."""

    def router(self, engine: Engine) -> APIRouter:
        """The route; see `Dialect.router`."""
        router = guarded_router(engine, _answer)

        @router.post(
            "/rerank",
            tags=["text-embeddings-inference"],
            summary="Rank texts, as text-embeddings-inference does",
            operation_id="tei_rerank",
            response_model_exclude_none=True,
            responses=documented(TeiError),
        )
        async def rerank(
            asked: TeiRerankRequest, request: Request, response: Response
        ) -> list[TeiRank]:
            if not asked.texts:
                raise _NoTexts("`texts` cannot be empty")
            if asked.truncation_direction in {"Left", "left"}:
                raise _wrong("truncation_direction", "texts are cut on the right only")
            job = RankJob(None, asked.query, asked.texts, truncation=asked.truncate)
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

        return router


def _logit(hit: RankedDocument) -> float:
    if hit.logit is None:
        raise _wrong("raw_scores", "the model here tells no raw scores")
    return hit.logit


def _wrong(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([WrongField(("body", field), message, "value_error")])


def _answer(refused: Refused, request: Request) -> Response:
    # What has failed at the model is a 424 there, and a text that is too long as wrong as any.
    status = {InternalFailure: 424, TooLong: 422}.get(type(refused), refused.status)
    message = refused.message
    if isinstance(refused, UnusableInput | TooLong):  # they name what is wrong
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
