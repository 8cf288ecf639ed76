"""A scorer without a model, for the tests of code that reranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

from .ranking import Usage
from .scorers.base import (
    LongDocuments,
    OnScored,
    Progress,
    ScoreRequest,
    ScoreResponse,
    refuse_options,
)


class FakeScorer:
    """Scorer that calls a function given by the test, and records its requests.

    Args:
        score: Function from a query and a document to the score. The default is the share of the
            query's distinct words that the document has.
        degraded: Value of `degraded` in every answer.
        fingerprint: Fingerprint for caches. Fakes that share a cache file and score differently
            need different ones.
        listwise: Whether a cache keeps each list of documents by itself.

    Attributes:
        fingerprint: As given.
        listwise: As given.
        requests: Every request so far.
        warm_ups: Number of calls that warmed it up.
        closed: Whether it was closed.
    """

    def __init__(
        self,
        score: Callable[[str, str], float] | None = None,
        *,
        degraded: str | None = None,
        fingerprint: str = "fake",
        listwise: bool = False,
    ) -> None:
        self._score = score or _shared_words
        self._degraded = degraded
        self.fingerprint = fingerprint
        self.listwise = listwise
        self.requests: list[ScoreRequest] = []
        self.warm_ups = 0
        self.closed = False

    @property
    def model(self) -> str:
        """Always `"fake"`."""
        return "fake"

    def warm_up(self) -> None:
        """Count the call."""
        self.warm_ups += 1

    async def awarm_up(self) -> None:
        """Count the call."""
        self.warm_up()

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request; each counts as one token in `on_scored`.

        Raises:
            InputError: A request has a limit for its documents, which have no tokens here.
        """
        # Texts of any length are read whole, so all three values of the option can be accepted.
        refuse_options(requests, "FakeScorer", long_documents=get_args(LongDocuments))
        self.requests += requests
        responses = []
        remaining = sum(len(request.documents) for request in requests)
        scored = 0
        for request in requests:
            scores = [self._score(request.query, document) for document in request.documents]
            responses.append(ScoreResponse(scores, Usage(len(scores)), degraded=self._degraded))
            scored += len(scores)
            remaining -= len(scores)
            if on_scored is not None:
                on_scored(Progress(scored, remaining))
        return responses

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score`, as a coroutine."""
        return self.score(requests, on_scored)

    def close(self) -> None:
        """Set `closed`."""
        self.closed = True

    async def aclose(self) -> None:
        """Set `closed`."""
        self.close()


def _shared_words(query: str, document: str) -> float:
    wanted = set(query.lower().split())
    return len(wanted & set(document.lower().split())) / len(wanted)
