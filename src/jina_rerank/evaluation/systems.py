"""Systems that can be evaluated: anything that scores the candidates of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .._numbers import as_real, shown
from ..errors import ConfigurationError, ScoringError
from ..ranking import Ranking
from ..reranker import Reranker

FIRST_STAGE = "first-stage"
"""The name of the order in which the candidates came."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A query and the documents that the first stage found for it, best first.

    Attributes:
        query_id: The query's identifier.
        query: Its text.
        document_ids: The documents' identifiers, at least one.
        documents: Their texts.
        first_stage: The first stage's scores of them.
    """

    query_id: str
    query: str
    document_ids: Sequence[str]
    documents: Sequence[str]
    first_stage: Sequence[float]


@dataclass(frozen=True, slots=True)
class SystemScores:
    """A system's answer for one query.

    Attributes:
        scores: One for each candidate, in their order, as `Ranking` gives them: higher is better,
            and a threshold is compared with them.
        logits: What the candidates are ordered by and mixes are made of, one for each; None where
            that is the scores.
        tokens: How many tokens were computed, or None if that is not known.
        truncated_documents: How many candidates were cut to fit, or None likewise.
    """

    scores: Sequence[float]
    tokens: int | None = None
    truncated_documents: int | None = None
    logits: Sequence[float] | None = None

    @property
    def order(self) -> Sequence[float]:
        """The numbers by which the candidates are ordered."""
        return self.scores if self.logits is None else self.logits


@runtime_checkable
class System(Protocol):
    """Anything that scores candidates."""

    @property
    def name(self) -> str:
        """The name in reports; no two systems of an evaluation have the same."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """All that decides its scores besides the texts, as `CacheableScorer.fingerprint`.

        None if that cannot be told; then an evaluation that was broken off scores anew.
        """
        ...

    def warm_up(self) -> None:
        """Load what scoring needs; its time does not count. Idempotent."""
        ...

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        """Score the candidates of several queries.

        Args:
            candidates: Candidates of each query; the pairs of all of them can share batches.

        Returns:
            One answer for each query, in the same order.

        Raises:
            RerankError: And nothing else on purpose.
        """
        ...


class FirstStageSystem:
    """The candidates in the order in which they came."""

    name = FIRST_STAGE
    fingerprint = None

    def warm_up(self) -> None:
        """Nothing to do."""

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        """The first stage's own scores."""
        return [SystemScores(one.first_stage) for one in candidates]


class RerankerSystem:
    """A reranker, with whatever scorer it has; a bi-encoder and BM25 are scorers like others.

    Candidates are ordered by the model's logits where it tells them, which order like its scores
    and do not crowd at 0 and 1; that matters where two systems are mixed.

    Args:
        reranker: What scores.
        name: What reports call it; the model's name by default.
    """

    def __init__(self, reranker: Reranker, *, name: str | None = None) -> None:
        self._reranker = reranker
        self._name = name or reranker.model

    @property
    def reranker(self) -> Reranker:
        """The reranker that scores."""
        return self._reranker

    @property
    def name(self) -> str:
        """The name in reports."""
        return self._name

    @property
    def fingerprint(self) -> str | None:
        """The scorer's, where it has one."""
        return getattr(self._reranker.scorer, "fingerprint", None)

    def warm_up(self) -> None:
        """Load the model."""
        self._reranker.warm_up()

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        """Score all candidates in one call.

        Raises:
            ScoringError: An answer was degraded: what another model said is no figure of this one.
            RerankError: As the reranker.
        """
        rankings = self._reranker.rank_many((one.query, one.documents) for one in candidates)
        return [_scores(ranking, one) for ranking, one in zip(rankings, candidates, strict=True)]


def _scores(ranking: Ranking, candidates: Candidates) -> SystemScores:
    if ranking.degraded is not None:
        raise ScoringError(
            f"query {candidates.query_id}: the answer is degraded and cannot be evaluated: "
            f"{ranking.degraded}"
        )
    hits = sorted(ranking, key=lambda hit: hit.index)
    logits = [hit.logit for hit in hits if hit.logit is not None]
    return SystemScores(
        scores=[hit.score for hit in hits],
        logits=logits if len(logits) == len(hits) else None,
        tokens=ranking.usage.tokens,
        truncated_documents=ranking.usage.truncated_documents,
    )


@dataclass(frozen=True)
class MixedSystem:
    """Two systems' scores, each spread over 0 to 1 within a query, and added with weights.

    It scores nothing itself: an evaluation mixes what its two systems said, each asked once. The
    first stage takes part as `FirstStageSystem()`.

    Args:
        name: What reports call it.
        first: One system.
        second: The other.
        weight: The first one's share, between 0 and 1; the second has the rest.

    Raises:
        ConfigurationError: `weight` is out of range.
    """

    name: str
    first: System
    second: System
    weight: float = 0.5

    def __post_init__(self) -> None:
        weight = as_real(self.weight)
        if weight is None or not 0 < weight < 1:
            raise ConfigurationError(
                f"{self.name}: the weight must be between 0 and 1, not {shown(self.weight)}"
            )
        object.__setattr__(self, "weight", weight)

    def mix(self, first: Sequence[float], second: Sequence[float]) -> list[float]:
        """The mixed scores of one query's candidates, from both systems' scores of them."""
        return [
            self.weight * a + (1 - self.weight) * b
            for a, b in zip(_spread(first), _spread(second), strict=True)
        ]


def parts_of(system: System | MixedSystem) -> tuple[System, ...]:
    """The systems that score: the two of a mix, or the system itself."""
    return (system.first, system.second) if isinstance(system, MixedSystem) else (system,)


def _spread(scores: Sequence[float]) -> list[float]:
    """Scores moved and stretched to lie between 0 and 1; all 0 where they are all equal."""
    low, high = min(scores), max(scores)
    if high == low:
        return [0.0] * len(scores)
    return [(score - low) / (high - low) for score in scores]
