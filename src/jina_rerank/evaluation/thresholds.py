"""Thresholds on scores: precision and recall of each, and the choice of one by precision."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from itertools import groupby

from .._numbers import as_real, shown
from ..errors import InputError
from .first_stage import Run
from .measures import ratio_interval
from .qrels import Qrels

WANTED_PRECISION = 0.8
"""Default precision for which a threshold is chosen."""

_DECIMALS = 12
"""Maximum decimals of a rounded threshold; if they are not enough, the threshold is a score."""

_WHOLE = 1e12
"""Magnitude from which on scores are not rounded."""


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """A threshold, and figures of the documents that it keeps, over all queries.

    Attributes:
        threshold: The least score that is kept.
        precision: Share of kept documents that are relevant; documents without a judgement are not.
        recall: Share of relevant documents that are kept; documents that the first stage did not
            find are not.
        without_documents: Share of queries for which no document is kept.
        documents: Mean number of documents that are kept for a query.
    """

    threshold: float
    precision: float
    recall: float
    without_documents: float
    documents: float


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The thresholds of a system, and the suggested one for a precision.

    Attributes:
        wanted: The precision to reach.
        suggested: The threshold with the highest recall that reaches this precision; None if none
            does.
        interval: 95% confidence interval of the suggested threshold's precision over queries, see
            `ratio_interval`; None without a suggested threshold.
        points: All thresholds worth choosing, lowest first. The first keeps every candidate. Each
            of the others is between the score of a relevant document, which it keeps, and the next
            lower score. Thresholds in between have the recall of the next higher one and a lower
            precision.
    """

    wanted: float
    suggested: ThresholdPoint | None
    interval: tuple[float, float] | None
    points: tuple[ThresholdPoint, ...]

    @property
    def most_precise(self) -> ThresholdPoint:
        """The threshold with the highest precision and, of several, with the highest recall."""
        return max(self.points, key=lambda point: point.precision)


def choose_threshold(
    scores: Run, qrels: Qrels, precision: float = WANTED_PRECISION
) -> ThresholdChoice:
    """Compare thresholds on scores, and choose one that reaches a precision.

    The documents of all queries count together, as one list. A threshold has no more decimals than
    it needs to separate a score from the next lower one.

    Args:
        scores: Scores of all candidates by query id and document id, as in `Ranking`.
        qrels: Grades by query id and document id; documents above 0 are relevant. Queries without
            grades do not count; queries without scores count as queries without a document.
        precision: The precision to reach, above 0 and at most 1.

    Raises:
        InputError: `precision` is out of range, no document is judged relevant, or no query of
            `qrels` has scores.
    """
    wanted = check_precision(precision)
    points = tuple(_points(scores, qrels))[::-1]
    # Recall falls as thresholds rise.
    suggested = next((point for point in points if point.precision >= wanted), None)
    interval = None if suggested is None else _interval(scores, qrels, suggested.threshold)
    return ThresholdChoice(wanted, suggested, interval, points)


def check_precision(precision: object) -> float:
    """Check a precision for which a threshold is to be chosen, and return it as a float.

    Raises:
        InputError: It is not a number above 0 and at most 1.
    """
    wanted = as_real(precision)
    if wanted is None or not 0 < wanted <= 1:
        raise InputError("precision", f"must be above 0 and at most 1, not {shown(precision)}")
    return wanted


def _points(scores: Run, qrels: Qrels) -> Iterator[ThresholdPoint]:
    """Yield the thresholds worth choosing, highest first."""
    judged = [
        (score, query, _is_relevant(qrels, query, document))
        for query in qrels
        for document, score in scores.get(query, {}).items()
    ]
    all_relevant = sum(grade > 0 for grades in qrels.values() for grade in grades.values())
    if not all_relevant:
        raise InputError("qrels", "has no relevant document; there is nothing to choose by")
    if not judged:
        raise InputError("scores", "has no documents for any query of qrels")
    judged.sort(key=lambda one: one[0], reverse=True)
    groups = [(score, list(group)) for score, group in groupby(judged, lambda one: one[0])]
    kept = relevant = 0
    answered: set[str] = set()
    for i, (score, group) in enumerate(groups):
        found = sum(is_relevant for *_, is_relevant in group)
        kept, relevant = kept + len(group), relevant + found
        answered.update(query for _, query, _ in group)
        is_last = i + 1 == len(groups)
        if found or is_last:
            yield ThresholdPoint(
                threshold=_shortest(-math.inf if is_last else groups[i + 1][0], score),
                precision=relevant / kept,
                recall=relevant / all_relevant,
                without_documents=1 - len(answered) / len(qrels),
                documents=kept / len(qrels),
            )


def _is_relevant(qrels: Qrels, query: str, document: str) -> bool:
    return qrels[query].get(document, 0) > 0


def _shortest(below: float, score: float) -> float:
    """Return the number with the fewest decimals that is above `below` and at most `score`."""
    exact = Decimal(score)
    for decimals in range(_DECIMALS + 1 if abs(score) < _WHOLE else 0):
        rounded = float(exact.quantize(Decimal(1).scaleb(-decimals), ROUND_FLOOR))
        if below < rounded <= score:
            return rounded
    return score


def _interval(scores: Run, qrels: Qrels, threshold: float) -> tuple[float, float]:
    kept: Counter[str] = Counter()
    relevant: Counter[str] = Counter()
    for query in qrels:
        for document, score in scores.get(query, {}).items():
            if score >= threshold:
                kept[query] += 1
                relevant[query] += _is_relevant(qrels, query, document)
    return ratio_interval([relevant[q] for q in qrels], [kept[q] for q in qrels])
