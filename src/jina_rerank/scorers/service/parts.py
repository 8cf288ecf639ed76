"""Splitting of a call into requests that a service accepts, and merging of their answers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...ranking import Usage
from ..base import ScoreRequest, ScoreResponse
from .settings import PartLimits

BYTES_PER_TOKEN = 3.0
"""Lower bound for estimates: English has some 4.5 bytes a token, Chinese some 3."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some consecutive documents of one request, small enough to be sent.

    Attributes:
        request: Number of the request in the call, from 0.
        start: The index of the first document within that request.
        query: Query of that request.
        documents: The documents, at least one.
    """

    request: int
    start: int
    query: str
    documents: Sequence[str]

    @property
    def place(self) -> str:
        """The part's documents in words, by their indices."""
        last = self.start + len(self.documents) - 1
        return f"documents {self.start} to {last}" if last > self.start else f"document {last}"

    @property
    def tokens(self) -> float:
        """Estimated number of tokens; the query counts with each document."""
        query = _size(self.query)
        return sum(_tokens(query + _size(text)) for text in self.documents)

    def halves(self) -> tuple[Part, Part]:
        """Split the part in two; it must have two documents at least."""
        middle = len(self.documents) // 2
        left, right = self.documents[:middle], self.documents[middle:]
        return (
            Part(self.request, self.start, self.query, left),
            Part(self.request, self.start + middle, self.query, right),
        )


@dataclass(frozen=True, slots=True)
class PartScores:
    """The service's answer to a part.

    Attributes:
        scores: One for each document, in the part's order.
        tokens: The service's own count, or None.
        degraded: The service's reason why its answer is partial or from a fallback, or None.
    """

    scores: Sequence[float]
    tokens: int | None = None
    degraded: str | None = None


def split(requests: Sequence[ScoreRequest], limits: PartLimits) -> list[Part]:
    """Split all requests into parts within the limits.

    A document that is over a limit by itself gets a separate part: only the service knows whether
    it is too long.
    """
    return [
        Part(number, start, request.query, request.documents[start:end])
        for number, request in enumerate(requests)
        for start, end in _spans(request, limits)
    ]


def _spans(request: ScoreRequest, limits: PartLimits) -> Iterator[tuple[int, int]]:
    query_size = _size(request.query)
    start, size, tokens = 0, query_size, 0.0
    for i, document in enumerate(request.documents):
        more = _size(document)
        more_tokens = _tokens(query_size + more)
        if i > start and (
            i - start == limits.documents
            or size + more > limits.size
            or tokens + more_tokens > limits.tokens
        ):
            yield start, i
            start, size, tokens = i, query_size, 0.0
        size += more
        tokens += more_tokens
    yield start, len(request.documents)


def _size(text: str) -> int:
    # As it will be sent, escapes included: a log file full of quotes grows by half.
    return len(json.dumps(text, ensure_ascii=False).encode())


def _tokens(size: int) -> float:
    return size / BYTES_PER_TOKEN


def merge(
    requests: Sequence[ScoreRequest],
    answers: Sequence[tuple[Part, PartScores]],
    failures: Sequence[tuple[Part, str]],
) -> list[ScoreResponse]:
    """Merge the answers to all parts into one response for each request.

    Args:
        requests: The requests of the call.
        answers: The parts that were answered, in any order.
        failures: The parts that were not answered, with the reason. Their documents come last, in
            the order given.

    Returns:
        The responses, in the order of the requests.
    """
    scores = [[math.nan] * len(request.documents) for request in requests]
    tokens: list[int | None] = [0] * len(requests)
    for part, answer in answers:
        scores[part.request][part.start : part.start + len(part.documents)] = answer.scores
        counted = tokens[part.request]
        if counted is not None:
            tokens[part.request] = None if answer.tokens is None else counted + answer.tokens
    said = {part.request: answer.degraded for part, answer in answers if answer.degraded}
    reasons: dict[int, str] = {}
    unscored: list[list[int]] = [[] for _ in requests]
    for part, reason in sorted(failures, key=lambda failure: failure[0].start):
        reasons[part.request] = reason
        unscored[part.request] += range(part.start, part.start + len(part.documents))
    return [
        _response(scores[i], tokens[i], unscored[i], reasons.get(i), said.get(i))
        for i in range(len(requests))
    ]


def _response(
    scores: list[float],
    tokens: int | None,
    unscored: list[int],
    reason: str | None,
    degraded: str | None,
) -> ScoreResponse:
    if reason is not None:
        degraded = f"{len(unscored):,} of {len(scores):,} documents were not scored: {reason}"
        put_last(scores, unscored)
    usage = Usage(documents=len(scores) - len(unscored), tokens=tokens)
    return ScoreResponse(scores, usage, degraded=degraded, unscored=tuple(unscored))


def put_last(scores: list[float], unscored: Sequence[int]) -> None:
    """Give documents without a score one that puts them last, in the order given."""
    missing = set(unscored)
    known = [score for i, score in enumerate(scores) if i not in missing]
    # All equal, since equal scores keep the order given.
    lowest = math.nextafter(min(known), -math.inf) if known else 0.0
    for i in unscored:
        scores[i] = lowest
