"""The one seam: what the reranker asks of anything that can score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ..ranking import Timings, Usage

LongDocuments = Literal["truncate", "chunk", "error"]
"""A scorer's way with a document that does not fit: read its beginning, read it all in windows
and take the best one's score, or refuse it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a call, in the tokens that it takes to compute; time goes by these.

    Attributes:
        tokens: How many have been computed.
        remaining_tokens: How many have not. An estimate while texts are not tokenized, and always
            where a service tokenizes them. What need not be computed, since a cache has it or a
            part has failed, is in neither.
    """

    tokens: int
    remaining_tokens: int


OnScored = Callable[[Progress], object]
"""Told, from whichever thread scores, how far the call has come. A call that begins anew, with
another scorer for instance, counts from 0 again."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One query and the documents to score against it, already checked.

    Attributes:
        query: Not blank.
        documents: At least one.
        name: How errors name this request: empty, or a prefix such as `"pairs[2]."`.
    """

    query: str
    documents: Sequence[str]
    name: str = ""


@dataclass(frozen=True, slots=True)
class ScoreResponse:
    """The answer to one request: columns with one value for each document, in its order.

    Columns, because a hundred thousand small objects would keep the garbage collector busy, and
    with it all threads. What a scorer cannot tell is None as a whole.

    Attributes:
        scores: Higher is more relevant.
        usage: What it cost.
        logits: See `RankedDocument.logit`.
        tokens: See `RankedDocument.tokens`.
        truncated_tokens: See `RankedDocument.truncated_tokens`.
        degraded: Why the answer is second best, or None.
        unscored: See `Ranking.unscored`; only a degraded answer has any.
        model: Which model scored, if not the scorer's `model`.
        timings: See `Ranking.timings`.
    """

    scores: Sequence[float]
    usage: Usage
    logits: Sequence[float] | None = None
    tokens: Sequence[int] | None = None
    truncated_tokens: Sequence[int] | None = None
    degraded: str | None = None
    unscored: tuple[int, ...] = ()
    model: str | None = None
    timings: Timings | None = None


@runtime_checkable
class Scorer(Protocol):
    """Scores documents against queries, on this machine or elsewhere.

    A scorer is safe to share between threads and event loops, and to pickle. Building one is
    cheap: what is expensive waits for `warm_up` or the first call.
    """

    @property
    def model(self) -> str:
        """The name of the model, as shown in `Ranking.model`."""
        ...

    def warm_up(self) -> None:
        """Make the first call as fast as the rest. Idempotent."""
        ...

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        ...

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request.

        Args:
            requests: The queries with their documents. Taken together, so that the pairs of
                all of them can share batches.
            on_scored: Called as tokens are computed.

        Returns:
            One response for each request, in the same order.

        Raises:
            RerankError: And nothing else on purpose.
        """
        ...

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops the work."""
        ...

    def close(self) -> None:
        """Let go of the model or the connections. Idempotent."""
        ...

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        ...


@runtime_checkable
class CacheableScorer(Scorer, Protocol):
    """A scorer whose scores may be kept and used again."""

    @property
    def fingerprint(self) -> str:
        """All that decides its scores besides query and document, as one line of text.

        Two scorers with the same fingerprint give a pair the same score, in any process and on
        any day. It holds no key.
        """
        ...

    @property
    def listwise(self) -> bool:
        """Tell whether a document's score depends on the documents that are scored with it."""
        ...
