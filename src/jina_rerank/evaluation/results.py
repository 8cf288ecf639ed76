"""Results of an evaluation: the measures and the cost of each system."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .collection import Collection
from .first_stage import Run
from .measures import Measured, PairedTest, paired_test
from .thresholds import WANTED_PRECISION, ThresholdChoice, choose_threshold


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of scoring.

    Attributes:
        pairs: Number of pairs of query and document that were scored.
        seconds: Time of scoring, without loading; the sum over all runs if it was interrupted.
        tokens: Number of tokens computed, or None if unknown.
        truncated_documents: Number of pairs whose document was truncated, or None if unknown.
    """

    pairs: int
    seconds: float
    tokens: int | None = None
    truncated_documents: int | None = None

    @property
    def pairs_per_second(self) -> float | None:
        """Throughput, or None if nothing was scored."""
        return self.pairs / self.seconds if self.pairs and self.seconds else None

    @property
    def truncated_share(self) -> float | None:
        """The share of pairs whose document was truncated, or None if unknown."""
        if self.truncated_documents is None or not self.pairs:
            return None
        return self.truncated_documents / self.pairs


@dataclass(frozen=True)
class SystemResult:
    """Result of one system.

    Attributes:
        name: The system's name.
        run: Its scores of all candidates, each query's documents best first.
        measured: Its measures, per query and mean.
        cost: Cost of scoring; None for the first stage, whose scores are part of the input.
        scores: The system's scores as in `Ranking`, with which a threshold is compared; `run` may
            hold logits. None for the first stage and for mixes, whose scores only order the
            documents of one query.
    """

    name: str
    run: Run
    measured: Measured
    cost: Cost | None
    scores: Run | None = None


@dataclass(frozen=True)
class Evaluation:
    """Results of several systems on one collection.

    Attributes:
        collection: The collection.
        depth: Maximum number of the first stage's documents that each system ordered.
        measures: Names of the measures.
        ignore_identical_ids: True if a document with the query's id was left out.
        results: One result for each system; the first is that of the first stage.
    """

    collection: Collection
    depth: int
    measures: tuple[str, ...]
    ignore_identical_ids: bool
    results: tuple[SystemResult, ...]

    @property
    def first_stage(self) -> SystemResult:
        """The result of the first stage's order."""
        return self.results[0]

    @property
    def pairs(self) -> int:
        """The number of candidates over all queries."""
        return sum(map(len, self.first_stage.run.values()))

    def result(self, name: str) -> SystemResult:
        """Return the result of the system with this name.

        Raises:
            InputError: There is no such system.
        """
        for result in self.results:
            if result.name == name:
                return result
        names = ", ".join(result.name for result in self.results)
        raise InputError("name", f"{name!r} was not evaluated, but {names}")

    def compare(self, first: str, second: str, measure: str | None = None) -> PairedTest:
        """Test the difference of the second system from the first; see `paired_test`.

        Args:
            first: Name of a system.
            second: Name of another system.
            measure: Name of the measure; the first of `measures` by default.

        Raises:
            InputError: A system or a measure was not evaluated.
        """
        name = measure or self.measures[0]
        if name not in self.measures:
            raise InputError("measure", f"{name!r} was not measured, but {self.measures}")
        one, other = (self.result(system).measured.per_query[name] for system in (first, second))
        return paired_test(list(one.values()), [other[query] for query in one])

    def choose_threshold(self, name: str, precision: float = WANTED_PRECISION) -> ThresholdChoice:
        """Choose a threshold for `rank(threshold=...)` by precision; see `choose_threshold`.

        Args:
            name: Name of a system.
            precision: The precision to reach.

        Raises:
            InputError: The system was not evaluated, its scores only order the documents of one
                query, or `precision` is out of range.
        """
        scores = self.result(name).scores
        if scores is None:
            raise InputError(
                "name", f"{name!r} has no threshold: its scores only order documents of one query"
            )
        return choose_threshold(scores, self.collection.qrels, precision)
