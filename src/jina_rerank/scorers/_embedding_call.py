"""One call to an `EmbeddingScorer`: its texts, their vectors, and the counts of cut tokens."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeAlias

from ..errors import InputError, ScoringError
from ..ranking import Usage
from .base import LongDocuments, OnScored, Progress, ScoreRequest, ScoreResponse
from .text_encoder import Encoder, Text, VectorT, batches_of
from .worker import worker_for

logger = logging.getLogger(__name__)

WINDOW_WORDS = 180
"""Words in a window of a long document: about the 256 tokens that small encoders were trained for.
The vectors of longer windows are less informative."""

WINDOW_TOKENS = 254
"""Approximate number of tokens in `WINDOW_WORDS`, without special tokens; a model that reads fewer
has shorter windows."""


Windows: TypeAlias = Sequence[Sequence[Text]]
"""The texts that are embedded for each document of a request."""


class EmbeddingCall(Generic[VectorT]):
    """The texts of one call to a scorer, and their vectors as they are computed."""

    def __init__(
        self,
        model: Encoder[VectorT],
        requests: Sequence[ScoreRequest],
        long_documents: LongDocuments,
        on_scored: OnScored | None,
    ) -> None:
        self._model = model
        self._requests = requests
        self._on_scored = on_scored
        # A request's own option goes before the scorer's setting.
        modes = [one.long_documents or long_documents for one in requests]
        self._windows = _windows(model, requests, modes)
        self._lengths = _Lengths(model, requests, self._windows, modes)
        wanted = list(
            dict.fromkeys(
                [
                    *(Text(one.query, is_query=True) for one in requests),
                    *(window for own in self._windows for windows in own for window in windows),
                ]
            )
        )
        self._vectors = model.known(wanted)
        self._missing = [text for text in wanted if text not in self._vectors]
        self._remaining = sum(map(_tokens_about, self._missing))
        self._computed = 0

    def batches(self) -> Iterator[Future[dict[Text, VectorT]]]:
        """Submit one batch to the worker for each future that is requested."""
        worker = worker_for(self._model.device)
        for batch in batches_of(self._missing):
            yield worker.run(partial(self._model.embed, batch))

    def add(self, vectors: dict[Text, VectorT]) -> None:
        """Store the vectors of a batch and report the progress."""
        self._vectors.update(vectors)
        tokens = sum(map(_tokens_about, vectors))
        self._computed += tokens
        self._remaining -= tokens
        if self._on_scored is not None:
            self._on_scored(Progress(self._computed, self._remaining))

    def responses(self) -> list[ScoreResponse]:
        """Build the responses; all batches must have been added."""
        return [self._response(number, request) for number, request in enumerate(self._requests)]

    def _response(self, number: int, request: ScoreRequest) -> ScoreResponse:
        windows = self._windows[number]
        flat = [self._vectors[window] for own in windows for window in own]
        query = self._vectors[Text(request.query, is_query=True)]
        compared = self._model.compare(query, flat)
        # max() over windows returns a NaN or skips it, depending on its position.
        if not all(map(math.isfinite, compared)):
            raise ScoringError(f"{self._model.name} has no number for a document")
        found = iter(compared)
        scores = [max(next(found) for _ in own) for own in windows]
        return self._lengths.response(number, request, scores)


class _Lengths:
    """Token counts of the texts of a call, of whole texts and of the parts that are read."""

    def __init__(
        self,
        model: Encoder[Any],
        requests: Sequence[ScoreRequest],
        windows: Sequence[Windows],
        modes: Sequence[LongDocuments],
    ) -> None:
        self._windows = windows
        self._rooms = {is_query: model.room(is_query=is_query) for is_query in (True, False)}
        texts = dict.fromkeys(
            [
                *(Text(one.query, is_query=True) for one in requests),
                *(window for own in windows for windows_of in own for window in windows_of),
            ]
        )
        lengths = model.lengths([one.text for one in texts])
        self._lengths = None if lengths is None else dict(zip(texts, lengths, strict=True))
        for number, (request, mode) in enumerate(zip(requests, modes, strict=True)):
            if mode == "error":
                self._refuse_longer(number, request)

    def response(
        self, number: int, request: ScoreRequest, scores: Sequence[float]
    ) -> ScoreResponse:
        """Build one request's response, with the counts of cut tokens where they are known."""
        if self._lengths is None:
            return ScoreResponse(scores, Usage(len(scores)))
        cut = [sum(map(self._missed, own)) for own in self._windows[number]]
        whole = [sum(self._lengths[window] for window in own) for own in self._windows[number]]
        truncated = sum(1 for tokens in cut if tokens)
        if truncated:
            logger.info("%d of %d documents were truncated", truncated, len(cut))
        query_cut = self._missed(Text(request.query, is_query=True))
        if query_cut:
            logger.warning("%squery: %d of its tokens are cut off", request.name, query_cut)
        return ScoreResponse(
            scores,
            Usage(len(scores), None, truncated, query_cut),
            tokens=[a - b for a, b in zip(whole, cut, strict=True)],
            truncated_tokens=cut,
        )

    def _missed(self, text: Text) -> int:
        room = self._rooms[text.is_query]
        return 0 if room is None or self._lengths is None else max(0, self._lengths[text] - room)

    def _refuse_longer(self, number: int, request: ScoreRequest) -> None:
        documents = enumerate(self._windows[number])
        for name, cut in [
            ("query", self._missed(Text(request.query, is_query=True))),
            *((f"documents[{d}]", sum(map(self._missed, own))) for d, own in documents),
        ]:
            if cut:
                fix = (
                    "shorten it"
                    if name == "query"
                    else ('split it, or use long_documents="truncate" or "chunk"')
                )
                raise InputError(
                    f"{request.name}{name}", f"has {cut:,} tokens more than the model reads; {fix}"
                )


def _windows(
    model: Encoder[Any], requests: Sequence[ScoreRequest], modes: Sequence[LongDocuments]
) -> list[Windows]:
    """List the texts that are embedded for the documents of each request."""
    room = model.room(is_query=False)
    size = WINDOW_WORDS
    if room is not None and room < WINDOW_TOKENS:
        size = max(1, room * WINDOW_WORDS // WINDOW_TOKENS)
    return [
        [
            [Text(part, is_query=False) for part in _parts(text, size)]
            if mode == "chunk"
            else [Text(text, is_query=False)]
            for text in request.documents
        ]
        for request, mode in zip(requests, modes, strict=True)
    ]


def _parts(text: str, size: int) -> Iterator[str]:
    words = text.split()
    for start in range(0, max(1, len(words)), size):
        yield " ".join(words[start : start + size])


def _tokens_about(text: Text) -> int:
    return len(text.text) // 4 + 1
