"""`FallbackScorer`: an answer of another scorer instead of none, always marked as degraded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._inputs import check_scorer
from .._installed import check_scorer_installed
from .._numbers import check_seconds
from ..errors import (
    ConnectionFailedError,
    RateLimitError,
    RequestTimeoutError,
    RerankError,
    ResponseError,
    ServerError,
    ServiceError,
)
from ..ranking import Usage
from .base import OnScored, Scorer, ScoreRequest, ScoreResponse

logger = logging.getLogger("jina_rerank.fallback")

OUTAGES: tuple[type[RerankError], ...] = (
    ConnectionFailedError,
    RateLimitError,
    RequestTimeoutError,
    ResponseError,
    ServerError,
)
"""Failures that pass by themselves. A missing key, an empty account or a wrong setting does not,
and a fallback would hide it for months."""

LONGEST_REST = 300.0
"""Longest time, in seconds, that a failed scorer is not called because its service asks for that. A
trial call costs little; a service that asks for a day would cost a day of degraded answers."""


class RetrievalOrder:
    """A scorer that keeps documents in the order given: the last resort of a `FallbackScorer`.

    The scores fall evenly from 1 to above 0, so that the order survives any later sorting by score.
    They say nothing about relevance, so every answer is degraded and every document is listed as
    unscored. No document is read, so a request's options have no effect.
    """

    @property
    def model(self) -> str:
        """Always `"retrieval-order"`."""
        return "retrieval-order"

    def __repr__(self) -> str:
        return "RetrievalOrder()"

    def warm_up(self) -> None:
        """Nothing to do."""

    async def awarm_up(self) -> None:
        """Nothing to do."""

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Return scores that keep the order; see `Scorer.score`."""
        responses = []
        for request in requests:
            count = len(request.documents)
            responses.append(
                ScoreResponse(
                    scores=[(count - i) / count for i in range(count)],
                    usage=Usage(documents=0, tokens=0),
                    degraded="the order of retrieval was kept",
                    unscored=tuple(range(count)),
                )
            )
        return responses

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` in a thread, so that very many documents do not block the event loop."""
        return await asyncio.to_thread(self.score, requests, on_scored)

    def close(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""


class FallbackScorer:
    """Scores with one scorer, and with others in turn when it cannot answer.

    The answer of any scorer but the first is degraded: `ranking.degraded` gives the reason,
    `ranking.model` names the model that scored, and thresholds do not apply to it. Errors that do
    not pass by themselves are raised: a key that is not accepted, an account without balance, a
    wrong setting, a document that cannot be used.

    While the first scorer fails, only one call in each `cooldown` tries it; all other calls go to
    the next scorer at once. Otherwise each call of the whole outage would wait for the timeout.

    Give the first scorer a timeout well below the caller's own deadline; otherwise the fallback
    comes too late.

    Args:
        primary: The scorer that is preferred.
        secondary: The scorer that is used when the first fails; `RetrievalOrder()` to keep the
            documents in the order given.
        *others: The scorers that are used when that fails too, in this order.
        cooldown: Time during which a failed primary is not called, in seconds; a longer
            `Retry-After` of the service counts instead, up to five minutes.

    Raises:
        ConfigurationError: An argument is no scorer, or `cooldown` is out of range.
    """

    def __init__(
        self, primary: Scorer, secondary: Scorer, *others: Scorer, cooldown: float = 5.0
    ) -> None:
        self._scorers = (primary, secondary, *others)
        names = ("primary", "secondary", *(f"others[{i}]" for i in range(len(others))))
        for name, scorer in zip(names, self._scorers, strict=True):
            check_scorer(scorer, name, "a scorer such as RemoteScorer(...) or RetrievalOrder()")
        self._cooldown = check_seconds(cooldown, "cooldown")
        self._outage: _Outage | None = None

    def __repr__(self) -> str:
        return f"FallbackScorer({', '.join(map(repr, self._scorers))})"

    @property
    def primary(self) -> Scorer:
        """The first scorer."""
        return self._scorers[0]

    @property
    def model(self) -> str:
        """The first scorer's model; `ranking.model` names the model that scored."""
        return self.primary.model

    def check_installed(self) -> None:
        """Check now that the packages of all scorers are installed: an outage is too late.

        Raises:
            ConfigurationError: A package is missing.
        """
        for scorer in self._scorers:
            check_scorer_installed(scorer)

    def warm_up(self) -> None:
        """Warm up all scorers: a fallback that loads in the middle of an outage is late.

        Raises:
            RerankError: A scorer cannot be warmed up.
        """
        for scorer in self._scorers:
            scorer.warm_up()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        for scorer in self._scorers:
            await scorer.awarm_up()

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score with the first scorer, or the next one; see `Scorer.score`.

        Raises:
            RerankError: The last scorer's error, or the first error that does not pass by itself.
        """
        turn = self._begin()
        for scorer in turn.scorers:
            try:
                return turn.answered(scorer, scorer.score(requests, on_scored))
            except OUTAGES as error:
                turn.failed(scorer, error)
        raise turn.failure

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops the work."""
        turn = self._begin()
        for scorer in turn.scorers:
            try:
                return turn.answered(scorer, await scorer.ascore(requests, on_scored))
            except OUTAGES as error:
                turn.failed(scorer, error)
        raise turn.failure

    def close(self) -> None:
        """Close all scorers. Idempotent."""
        for scorer in self._scorers:
            scorer.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        for scorer in self._scorers:
            await scorer.aclose()

    def __getstate__(self) -> dict[str, Any]:
        # Another process has its own clock, and detects an outage by itself.
        return {**self.__dict__, "_outage": None}

    def _begin(self) -> _Turn:
        outage = self._outage
        now = time.monotonic()
        if outage is None:
            return _Turn(self, self._scorers)
        if now < outage.until:
            reason = f"{self.model} is left alone for a while since it failed ({outage.reason})"
            return _Turn(self, self._scorers[1:], reason)
        # This call tries the first scorer again; other calls skip that scorer meanwhile.
        self._outage = replace(outage, until=now + self._cooldown)
        return _Turn(self, self._scorers)

    def note_failure(self, error: RerankError) -> None:
        """Skip the first scorer for a while."""
        wanted = error.retry_after if isinstance(error, ServiceError) else None
        seconds = max(self._cooldown, min(wanted or 0.0, LONGEST_REST))
        self._outage = _Outage(time.monotonic() + seconds, _name(error))

    def note_answer(self) -> None:
        """Use the first scorer again."""
        self._outage = None


@dataclass(frozen=True, slots=True)
class _Outage:
    """The time until which the first scorer is skipped, by `time.monotonic`, and the reason."""

    until: float
    reason: str


class _Turn:
    """One call's way through the scorers.

    Args:
        owner: The fallback scorer that was called.
        scorers: The scorers to try, in this order.
        reason: The reason why the first scorer is not among them, or None.
    """

    def __init__(
        self, owner: FallbackScorer, scorers: Sequence[Scorer], reason: str | None = None
    ) -> None:
        self.scorers = scorers
        self._owner = owner
        self._reasons = [] if reason is None else [reason]
        self._failure: RerankError | None = None

    @property
    def failure(self) -> RerankError:
        """The error to raise when no scorer has answered: the last scorer's."""
        assert self._failure is not None
        return self._failure

    def failed(self, scorer: Scorer, error: RerankError) -> None:
        """Note that a scorer could not answer."""
        if scorer is self._owner.primary:
            self._owner.note_failure(error)
        logger.warning("%s could not answer: %s", scorer.model, error)
        self._reasons.append(f"{scorer.model} failed ({_name(error)})")
        self._failure = error

    def answered(self, scorer: Scorer, responses: list[ScoreResponse]) -> list[ScoreResponse]:
        """Mark the responses as degraded, unless the first scorer gave them."""
        if scorer is self._owner.primary:
            self._owner.note_answer()
            return responses
        why = "; ".join(self._reasons)
        return [
            replace(
                response,
                model=response.model or scorer.model,
                degraded=f"{why}; {response.degraded or f'scored by {scorer.model}'}",
            )
            for response in responses
        ]


def _name(error: RerankError) -> str:
    return f"{type(error).__name__}: {error}"
