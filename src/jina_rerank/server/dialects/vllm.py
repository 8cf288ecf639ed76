"""The dialect of vLLM's score API: `POST /score` and `POST /v1/score`, as of its version 0.20.

The response has a score for each pair of texts, in the order of the pairs. `text_1` holds the
queries and `text_2` the documents: one query for all documents, or as many queries as documents.
Differences from the original: long texts are always truncated, and `truncate_prompt_tokens` is
ignored; vLLM's other names of the two fields, such as `data_1` and `queries`, are not supported,
nor are images.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..._inputs import check_instruction, check_query, check_text
from ...errors import InputError
from ...ranking import RankedDocument
from ...scorers.base import ScoreRequest
from ..dialect import FORM, ScoreJob, guarded_router
from ..engine import Engine
from ..refusals import InvalidRequest, Refused, TooLarge, UnknownModel, WrongField
from ._errors import documented, error_response

PATHS = {"/score": "vllm_score", "/v1/score": "vllm_v1_score"}
"""Paths of scores, with the operation's id in OpenAPI."""

TYPES = {
    401: "AuthenticationError",
    404: "NotFoundError",
    429: "RateLimitError",
}
"""Names of errors by status; other statuses have `BadRequestError` below 500, and
`InternalServerError` from 500 on."""


STRING, LIST = f"{FORM}a string", f"{FORM}a list"


def _form_of(texts: object) -> str:
    """Return the tag of a value's form, so that errors are about this form only."""
    return LIST if isinstance(texts, list) else STRING


Texts = Annotated[
    Annotated[str, Tag(STRING)]
    | Annotated[list[str], Field(min_length=1, fail_fast=True), Tag(LIST)],
    Discriminator(_form_of),
]


class VllmScoreRequest(BaseModel):
    """Pairs of texts.

    Attributes:
        model: Name of a served model; default: the first one.
        text_1: One query for all documents, or as many queries as documents.
        text_2: The documents.
        use_activation: False to return logits instead of their sigmoids.
        instruction: Description of what makes a document relevant, for models whose template has a
            place for it.
    """

    model_config = ConfigDict(strict=True)

    model: str | None = None
    text_1: Texts
    text_2: Texts
    use_activation: bool | None = None
    instruction: str | None = None


class VllmScore(BaseModel):
    """The score of one pair; `index` is its position in the request, from 0."""

    index: int
    object: Literal["score"] = "score"
    score: float


class VllmUsage(BaseModel):
    """Tokens that the model read; query and special tokens count once for each document."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class VllmScoreResponse(BaseModel):
    """A score for each pair, in the order of the pairs.

    Attributes:
        id: The request's id, with the prefix `score-`.
        object: Type of `data`, a list.
        created: Time of the response, in seconds since 1970.
        model: Name of the served model.
        data: The scores.
        usage: Number of tokens.
        ignored: Fields of the request that had no effect on this model; absent if there are none.
            An extension of vLLM's API.
    """

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[VllmScore]
    usage: VllmUsage
    ignored: list[str] | None = None


class VllmErrorInfo(BaseModel):
    """An error, in the format of OpenAI's API.

    Attributes:
        message: The problem and its remedy.
        type: Kind of the error.
        param: The first invalid field, or `model` if it is unknown; None for other errors.
        code: The HTTP status.
    """

    message: str
    type: str
    param: str | None = None
    code: int


class VllmError(BaseModel):
    """Error response."""

    error: VllmErrorInfo


class Vllm:
    """`POST /score` and `POST /v1/score`; see `Dialect`."""

    def router(self, engine: Engine) -> APIRouter:
        """Return the routes; see `Dialect.router`."""
        router = guarded_router(engine, _answer)

        async def score(asked: VllmScoreRequest, request: Request) -> JSONResponse:
            queries, documents = _check_texts(asked)
            # Grouped by query, since one query for many documents is the common case.
            places: dict[str, list[int]] = {}
            for i, query in enumerate(queries):
                places.setdefault(query, []).append(i)
            _check_blank(places, documents)
            instruction = check_instruction(asked.instruction)
            job = ScoreJob(
                asked.model,
                [
                    ScoreRequest(query, [documents[i] for i in found], instruction=instruction)
                    for query, found in places.items()
                ],
            )
            rankings = await engine.score(job, request)
            scores = {
                found[hit.index]: _logit(hit) if asked.use_activation is False else hit.score
                for found, ranking in zip(places.values(), rankings, strict=True)
                for hit in ranking
            }
            tokens = sum(ranking.usage.tokens or 0 for ranking in rankings)
            answer = VllmScoreResponse(
                id=f"score-{request.state.request_id}",
                created=int(time.time()),
                model=rankings[0].model,
                data=[VllmScore(index=i, score=scores[i]) for i in range(len(documents))],
                usage=VllmUsage(prompt_tokens=tokens, total_tokens=tokens),
                ignored=getattr(request.state, "ignored", None),
            )
            # vLLM's answers have no such field, so it is left out if there is nothing to report.
            left_out = {"ignored"} if answer.ignored is None else set()
            return JSONResponse(answer.model_dump(exclude=left_out))

        for path, operation in PATHS.items():
            router.post(
                path,
                response_model=VllmScoreResponse,
                tags=["vLLM"],
                summary="Score pairs of texts, as vLLM does",
                operation_id=operation,
                responses=documented(VllmError),
            )(score)
        return router


def _check_texts(asked: VllmScoreRequest) -> tuple[list[str], list[str]]:
    """Check the texts, and return as many queries as documents."""
    queries = [check_query(text, name) for name, text in _named("text_1", asked.text_1)]
    documents = [check_text(text, name) for name, text in _named("text_2", asked.text_2)]
    if len(queries) == 1:
        return queries * len(documents), documents
    if len(queries) != len(documents):
        raise InputError(
            "text_1",
            f"has {len(queries):,} texts for {len(documents):,} in text_2; "
            "send one, or as many as in text_2",
        )
    return queries, documents


def _named(field: str, texts: str | list[str]) -> Iterator[tuple[str, str]]:
    """Yield each text with its name for errors."""
    if isinstance(texts, str):
        yield field, texts
        return
    for i, text in enumerate(texts):
        yield f"{field}[{i}]", text


def _check_blank(places: dict[str, list[int]], documents: Sequence[str]) -> None:
    """Refuse a query whose documents are all blank, with this dialect's name of the field."""
    for found in places.values():
        if not any(documents[i].strip() for i in found):
            name = "text_2" if len(found) == len(documents) else f"text_2[{found[0]}]"
            raise InputError(name, "is blank; send the text to score")


def _logit(hit: RankedDocument) -> float:
    if hit.logit is None:
        problem = "the model here tells no logits; leave it out"
        raise InvalidRequest([WrongField(("body", "use_activation"), problem, "value_error")])
    return hit.logit


def _answer(refused: Refused, request: Request) -> Response:
    status, param, message = refused.status, None, refused.message
    if isinstance(refused, InvalidRequest):
        status = 400
        # The first field only, without a position: "text_2" for "text_2[3]".
        param = next((str(field.path[1]) for field in refused.fields if field.path[1:]), None)
    elif isinstance(refused, UnknownModel):
        status, param = 404, "model"
    elif isinstance(refused, TooLarge):
        message = message.replace("documents: ", "text_2: ", 1)
    kind = TYPES.get(status, "BadRequestError" if status < 500 else "InternalServerError")
    info = VllmErrorInfo(message=message, type=kind, param=param, code=status)
    return error_response(VllmError(error=info), status)
