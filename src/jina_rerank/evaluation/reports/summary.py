"""The figures of an evaluation without its texts, for JSON files and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from ..._lines import read_text
from ..._output import write_text
from ...errors import InputError
from ..machine import processor
from ..measures import PairedTest, confidence_interval
from ..results import Cost, Evaluation, SystemResult
from ..thresholds import ThresholdChoice, ThresholdPoint

THRESHOLDS = 100
"""Maximum number of thresholds of a system in a summary."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over queries with its 95% confidence interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One system's figures.

    Attributes:
        name: The system's name.
        figures: Figures by measure.
        against_first_stage: Test of the difference from the first stage by the first measure; None
            for the first stage itself.
        cost: Cost of scoring; None for the first stage.
        thresholds: Figures of thresholds on the scores, 100 of them at most, evenly spread over the
            relevant documents; None if not requested, for the first stage, and for mixes.
    """

    name: str
    figures: Mapping[str, Figure]
    against_first_stage: PairedTest | None
    cost: Cost | None
    thresholds: ThresholdChoice | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """An evaluation's figures.

    Attributes:
        collection: The collection's name.
        queries: Number of queries.
        documents: Number of documents.
        judgements: Number of judged pairs.
        missing_documents: Number of judged documents that the collection lacks.
        ignore_identical_ids: True if a document with the query's id was left out.
        depth: Maximum number of candidates of a query.
        measures: Names of the measures, the most important first.
        rows: One row for each system; the first is the first stage.
        jina_rerank: Version of jina-rerank that ran the evaluation.
        date: Date of the evaluation, in UTC.
        settings: Options of the command that have no field here, by name.
        processor: Processor of the machine; blank in files of older versions.
        precision: Precision for which thresholds were chosen; None without thresholds.
        empty_queries: Number of queries for which the first stage has no documents.
    """

    collection: str
    queries: int
    documents: int
    judgements: int
    missing_documents: int
    ignore_identical_ids: bool
    depth: int
    measures: tuple[str, ...]
    rows: tuple[Row, ...]
    jina_rerank: str
    date: str
    settings: Mapping[str, str] = field(default_factory=dict)
    processor: str = ""
    precision: float | None = None
    empty_queries: int = 0

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        settings: Mapping[str, str] | None = None,
        *,
        precision: float | None = None,
    ) -> Self:
        """Summarize an evaluation that ran on this machine.

        Args:
            evaluation: The evaluation.
            settings: Settings of the systems, to be shown with the figures, by name.
            precision: Precision for which to choose thresholds; None for no thresholds.

        Raises:
            InputError: `precision` is out of range, or no document is judged relevant.
        """
        from ... import __version__

        collection = evaluation.collection
        return cls(
            collection=collection.name,
            queries=len(collection.queries),
            documents=len(collection.documents),
            judgements=collection.judgements,
            missing_documents=len(collection.missing_documents),
            ignore_identical_ids=evaluation.ignore_identical_ids,
            depth=evaluation.depth,
            measures=evaluation.measures,
            rows=tuple(_row(evaluation, result, precision) for result in evaluation.results),
            jina_rerank=__version__,
            date=datetime.now(UTC).date().isoformat(),
            settings=dict(settings or {}),
            processor=processor(),
            precision=precision,
            empty_queries=len(collection.queries.keys() - evaluation.first_stage.run.keys()),
        )

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Restore a summary from the result of `to_dict`.

        Raises:
            KeyError: A field is missing.
            TypeError: A field has the wrong type.
        """
        rows = tuple(
            Row(
                name=row["name"],
                figures={name: Figure(**figure) for name, figure in row["figures"].items()},
                against_first_stage=_maybe(PairedTest, row["against_first_stage"]),
                cost=_maybe(Cost, row["cost"]),
                thresholds=_choice(row.get("thresholds")),
            )
            for row in saved["rows"]
        )
        return cls(**{**saved, "measures": tuple(saved["measures"]), "rows": rows})

    def to_dict(self) -> dict[str, Any]:
        """Convert the summary to plain dicts, lists, strings and numbers, for JSON."""
        return asdict(self)


def write_summary(summary: Summary, path: Path) -> None:
    """Write a summary as JSON."""
    write_text(path, json.dumps(summary.to_dict(), indent=2, ensure_ascii=False) + "\n")


def read_summary(path: Path) -> Summary:
    """Read a summary that `write_summary` wrote.

    Raises:
        InputError: The file cannot be read, or is not a summary.
    """
    text = read_text(path)
    try:
        return Summary.from_dict(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(str(path), f"is not the summary of an evaluation: {error!r}") from error


def write_per_query(evaluation: Evaluation, path: Path) -> None:
    """Write every measure of every query as JSON Lines, one for each query and system."""
    lines = [
        json.dumps(
            {
                "query_id": query,
                "system": result.name,
                **{name: result.measured.per_query[name][query] for name in evaluation.measures},
            },
            ensure_ascii=False,
        )
        for query in evaluation.collection.queries
        for result in evaluation.results
    ]
    write_text(path, "\n".join(lines) + "\n")


def _row(evaluation: Evaluation, result: SystemResult, precision: float | None) -> Row:
    per_query, means = result.measured.per_query, result.measured.means
    figures = {
        name: Figure(means[name], *confidence_interval(list(per_query[name].values())))
        for name in evaluation.measures
    }
    first = evaluation.first_stage.name
    test = None if result.name == first else evaluation.compare(first, result.name)
    choice = None
    if precision is not None and result.scores is not None:
        choice = evaluation.choose_threshold(result.name, precision)
        chosen = {*spread(choice.points, THRESHOLDS - 1), choice.most_precise}
        points = sorted(chosen, key=lambda point: point.threshold)
        choice = replace(choice, points=tuple(points))
    return Row(result.name, figures, test, result.cost, choice)


def spread(points: Sequence[ThresholdPoint], count: int) -> list[ThresholdPoint]:
    """Select at most `count` points, evenly spread, with the first and the last."""
    if len(points) <= count:
        return list(points)
    return [points[i * (len(points) - 1) // (count - 1)] for i in range(count)]


def _choice(saved: Mapping[str, Any] | None) -> ThresholdChoice | None:
    if saved is None:
        return None
    interval = saved["interval"]
    return ThresholdChoice(
        wanted=saved["wanted"],
        suggested=_maybe(ThresholdPoint, saved["suggested"]),
        interval=None if interval is None else tuple(interval),
        points=tuple(ThresholdPoint(**point) for point in saved["points"]),
    )


def _maybe(kind: Any, fields: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - a dataclass
    return None if fields is None else kind(**fields)
