"""Measures of rankings, confidence intervals, and significance tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from ..errors import ConfigurationError, InputError
from ._extra import import_extra
from .first_stage import Run, best_first
from .qrels import Qrels, check_grade

DEFAULT_MEASURES = ("nDCG@10", "RR@10", "Success@10", "R@10", "AP", "R@100")
"""Names of ir-measures: the mean of RR@10 is MRR@10, that of Success@10 the hit rate."""

LARGEST_CUTOFF = 1_000_000
"""Maximum cutoff. With a larger one, or 0, trec_eval ends the process."""

RESAMPLES = 10_000
_CHUNK = 1_000_000


@dataclass(frozen=True)
class Measured:
    """Values of measures for a run.

    Attributes:
        per_query: Values by measure and query id, for every query of the judgements.
    """

    per_query: Mapping[str, Mapping[str, float]]

    @property
    def means(self) -> dict[str, float]:
        """The mean over all queries, by measure."""
        return {name: fmean(values.values()) for name, values in self.per_query.items()}


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Difference of the second of two systems from the first over the same queries.

    Attributes:
        difference: Mean of second minus first.
        p_value: Probability of a difference at least as large, in either direction, if the two
            systems are exchanged at random in each query.
        wins: Number of queries for which the second system is better.
        ties: Number of queries for which both are equal.
        losses: Number of queries for which the first system is better.
    """

    difference: float
    p_value: float
    wins: int
    ties: int
    losses: int


def measure(run: Run, qrels: Qrels, measures: Sequence[str] = DEFAULT_MEASURES) -> Measured:
    """Measure a run with ir-measures, which calls trec_eval's code.

    Only the order of the run counts, not the scores: ties are taken as they are ranked. Every
    query of the judgements counts, with 0 if the run has no documents for it (as in
    `trec_eval -c`) or if no document was judged relevant (as in trec_eval). Queries of the run
    that are not judged do not count. Without a cutoff, recall and AP use the whole run, and divide
    by all relevant documents, found or not.

    Args:
        run: Scores by query id and document id.
        qrels: Grades by query id and document id, for at least one query.
        measures: Names of measures, as in ir-measures.

    Raises:
        ConfigurationError: A measure is unknown or cannot be computed here, or the extra `eval`
            is missing.
        InputError: There are no judgements, or a grade is beyond 10,000.
    """
    if not qrels:
        raise InputError("qrels", "has no queries; there is nothing to measure")
    for query, grades in qrels.items():
        for document, grade in grades.items():
            check_grade(grade, f"qrels: {document!r} for {query!r}")
    ir_measures = import_extra("ir_measures")
    parsed = {name: _parse(ir_measures, name) for name in measures}
    # trec_eval orders ties by document id; scores made from ranks have none.
    ranked = {
        query: {document: float(-place) for place, document in enumerate(best_first(scores))}
        for query, scores in run.items()
        if query in qrels
    }
    values: dict[str, dict[str, float]] = {
        str(m): dict.fromkeys(qrels, 0.0) for m in parsed.values()
    }
    # trec_eval writes outside its memory for grades below -1, which are not relevant either.
    judged = {
        query: {document: max(grade, -1) for document, grade in grades.items()}
        for query, grades in qrels.items()
    }
    try:
        for metric in ir_measures.iter_calc(list(set(parsed.values())), judged, ranked):
            values[str(metric.measure)][metric.query_id] = float(metric.value)
    except Exception as error:  # providers, some of them Perl scripts, raise errors of any kind
        raise ConfigurationError(
            f"measures: {', '.join(measures)} cannot be computed here: {error!r}"
        ) from error
    return Measured({name: values[str(m)] for name, m in parsed.items()})


def _parse(ir_measures: Any, name: str) -> Any:  # noqa: ANN401 - without annotations
    try:
        parsed = ir_measures.parse_measure(name)
        parsed.validate_params()
    except (NameError, ValueError, SyntaxError, TypeError, AssertionError) as error:
        raise ConfigurationError(
            f"measures: {name!r} is none that ir-measures knows; try {', '.join(DEFAULT_MEASURES)}"
        ) from error
    if not 1 <= parsed.params.get("cutoff", 1) <= LARGEST_CUTOFF:
        raise ConfigurationError(
            f"measures: {name!r} must look at 1 to {LARGEST_CUTOFF:,} documents"
        )
    return parsed


def confidence_interval(
    values: Sequence[float], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Compute a confidence interval of the mean over queries by a percentile bootstrap.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, with 10,000
    resamples of the queries.

    Args:
        values: One value for each query, at least one. A single value is both ends of the interval.
        level: Share of the distribution to cover, between 0 and 1.
        seed: Seed of the random numbers; the same seed gives the same interval.

    Raises:
        InputError: There are no values, or `level` is not between 0 and 1.
    """
    import_extra("numpy")
    import numpy as np

    if not len(values):
        raise InputError("values", "is empty")
    if not 0 < level < 1:
        raise InputError("level", f"must be between 0 and 1, not {level}")
    array = np.asarray(values, dtype=np.float64)
    means = [array[rows].mean(1) for rows in _resamples(len(array), seed)]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ratio_interval(
    parts: Sequence[float], wholes: Sequence[float], *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Compute a confidence interval of the sum of parts divided by the sum of wholes.

    The bootstrap is that of `confidence_interval`; resamples whose wholes are all 0 are left out.

    Args:
        parts: Numerators, one for each query, at least one.
        wholes: Denominators for the same queries in the same order; 0 or more, and not all 0.
        level: As for `confidence_interval`.
        seed: As for `confidence_interval`.

    Raises:
        InputError: The lengths differ, or no whole is above 0.
    """
    import_extra("numpy")
    import numpy as np

    if len(parts) != len(wholes) or not any(wholes):
        raise InputError("wholes", "must be as many as parts, and one of them above 0")
    part, whole = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    sums = [(part[rows].sum(1), whole[rows].sum(1)) for rows in _resamples(len(part), seed)]
    numerators, denominators = (np.concatenate(column) for column in zip(*sums, strict=True))
    usable = denominators > 0
    ratios = numerators[usable] / denominators[usable]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resamples(count: int, seed: int) -> Iterator[Any]:
    """Yield indices of queries, a row for each resample, some of the 10,000 at a time."""
    import numpy as np

    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK // count)
    for done in range(0, RESAMPLES, rows):
        yield generator.integers(count, size=(min(rows, RESAMPLES - done), count))


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Test whether two systems differ: Fisher's paired randomization test, two-sided.

    In each trial the two values of a query are exchanged with probability 1/2. The p-value is the
    share of 10,000 trials whose mean difference is at least the measured one. The measured one is
    counted as a trial, so that it is never 0 (Smucker, Allan and Carterette, A Comparison of
    Statistical Significance Tests for Information Retrieval Evaluation, 2007; Phipson and Smyth,
    Permutation P-values Should Never Be Zero, 2010).

    Args:
        first: The first system's values, one for each query, at least one.
        second: The second system's values for the same queries in the same order.
        seed: Seed of the random numbers; the same seed gives the same p-value.

    Raises:
        InputError: There are no values, or the lengths differ.
    """
    import_extra("numpy")
    import numpy as np

    if len(first) != len(second) or not len(first):
        raise InputError(
            "second", f"must have as many values as first: {len(first)} and {len(second)}"
        )
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    measured = float(differences.mean())
    generator = np.random.default_rng(seed)
    # With a tolerance: a trial equal to the measured difference may differ by rounding.
    bar = abs(measured) - 1e-12
    rows = max(1, _CHUNK // len(differences))
    as_large = 0
    for done in range(0, RESAMPLES, rows):
        size = (min(rows, RESAMPLES - done), len(differences))
        signs = generator.integers(2, size=size, dtype=np.int8) * 2 - 1
        as_large += int(np.count_nonzero(np.abs((signs * differences).mean(1)) >= bar))
    return PairedTest(
        difference=measured,
        p_value=(as_large + 1) / (RESAMPLES + 1),
        wins=int(np.count_nonzero(differences > 0)),
        ties=int(np.count_nonzero(differences == 0)),
        losses=int(np.count_nonzero(differences < 0)),
    )
