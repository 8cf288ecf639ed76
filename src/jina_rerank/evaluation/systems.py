"""Systems that can be evaluated: classes that score the candidates of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .._numbers import as_real, shown
from ..errors import ConfigurationError, ScoringError
from ..ranking import Ranking
from ..reranker import Reranker

FIRST_STAGE = "first-stage"
"""Name of the system that keeps the first stage's order."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A query and the documents that the first stage found for it, best first.

    Attributes:
        query_id: Identifier of the query.
        query: Text of the query.
        document_ids: Identifiers of the documents, at least one.
        documents: Texts of the documents.
        first_stage: The first stage's scores of the documents.
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
        scores: One score for each candidate, in their order, as in `Ranking`: higher is better, and
            a threshold is compared with them.
        logits: One logit for each candidate, by which candidates are ordered and mixes computed;
            None to use the scores.
        tokens: Number of tokens computed, or None if unknown.
        truncated_documents: Number of candidates that were truncated, or None if unknown.
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
    """A system that scores candidates."""

    @property
    def name(self) -> str:
        """The name in reports, unique within an evaluation."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """All that determines the scores besides the texts, as `CacheableScorer.fingerprint`.

        None if it is unknown; an interrupted evaluation then scores again.
        """
        ...

    def warm_up(self) -> None:
        """Load what scoring needs; this time is not measured. Idempotent."""
        ...

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        """Score the candidates of several queries.

        Args:
            candidates: Candidates of each query; the pairs of all of them can share batches.

        Returns:
            One answer for each query, in the same order.

        Raises:
            RerankError: Scoring failed. Implementations raise no other errors intentionally.
        """
        ...


class FirstStageSystem:
    """The first stage, which keeps the order of the candidates."""

    name = FIRST_STAGE
    fingerprint = None

    def warm_up(self) -> None:
        """Do nothing."""

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        """Return the first stage's scores."""
        return [SystemScores(one.first_stage) for one in candidates]


class RerankerSystem:
    """A reranker with any scorer, also a bi-encoder or BM25.

    Candidates are ordered by the model's logits if it has them. They have the same order as the
    scores, but are not concentrated near 0 and 1, which matters when two systems are mixed.

    Args:
        reranker: The reranker.
        name: The name in reports; the model's name by default.
    """

    def __init__(self, reranker: Reranker, *, name: str | None = None) -> None:
        self._reranker = reranker
        self._name = name or reranker.model

    @property
    def reranker(self) -> Reranker:
        """The reranker."""
        return self._reranker

    @property
    def name(self) -> str:
        """The name in reports."""
        return self._name

    @property
    def fingerprint(self) -> str | None:
        """The scorer's fingerprint, if it has one."""
        return getattr(self._reranker.scorer, "fingerprint", None)

    def warm_up(self) -> None:
        """Load the model."""
        self._reranker.warm_up()

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        """Score all candidates in one call.

        Raises:
            ScoringError: An answer was degraded, so it holds scores of another model.
            RerankError: The reranker's errors.
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
    """Weighted sum of two systems' scores, each scaled to 0 to 1 within a query.

    It does not score: an evaluation has the two systems score once, and mixes their scores. The
    first stage can be mixed as `FirstStageSystem()`.

    Args:
        name: The name in reports.
        first: The first system.
        second: The second system.
        weight: Weight of the first system, between 0 and 1; the second has the rest.

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
        """Compute the mixed scores of one query's candidates from both systems' scores."""
        return [
            self.weight * a + (1 - self.weight) * b
            for a, b in zip(_spread(first), _spread(second), strict=True)
        ]


def parts_of(system: System | MixedSystem) -> tuple[System, ...]:
    """Return the systems that score: both systems of a mix, or the system itself."""
    return (system.first, system.second) if isinstance(system, MixedSystem) else (system,)


def _spread(scores: Sequence[float]) -> list[float]:
    """Scale scores to lie between 0 and 1; all are 0 if they are equal."""
    low, high = min(scores), max(scores)
    if high == low:
        return [0.0] * len(scores)
    return [(score - low) / (high - low) for score in scores]
