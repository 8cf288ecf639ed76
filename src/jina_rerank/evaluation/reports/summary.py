"""The figures of an evaluation without its texts: what JSON files hold and tables show."""

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
from ..evaluate import Cost, Evaluation, SystemResult
from ..machine import processor
from ..measures import PairedTest, confidence_interval
from ..thresholds import ThresholdChoice, ThresholdPoint

THRESHOLDS = 100
"""The most thresholds of a system that a summary holds."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over queries with its 95% confidence interval.

    Attributes:
        mean: The mean.
        low: The interval's lower end.
        high: Its upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One system's figures.

    Attributes:
        name: The system's name.
        figures: By measure.
        against_first_stage: How it differs from the first stage by the first measure; None for
            the first stage itself.
        cost: What scoring cost; None for the first stage.
        thresholds: What thresholds on its scores keep, 100 of them at most, evenly spread over the
            relevant documents; None if it was not asked for, for the first stage, and for mixes.
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
        queries: How many queries were asked.
        documents: How many documents there are.
        judgements: How many pairs are judged.
        missing_documents: How many judged documents the collection lacks.
        ignore_identical_ids: Whether a document with the query's own id was left out.
        depth: How many candidates each query had at most.
        measures: Names of the measures, the most important first.
        rows: One for each system; the first is the first stage.
        jina_rerank: The version that made it.
        date: The day on which it was made, in UTC.
        settings: The options of the command that are not told otherwise, by name.
        processor: The processor that it ran on; blank in files of older versions.
        precision: The precision that thresholds were chosen for; None if none was asked for.
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

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        settings: Mapping[str, str] | None = None,
        *,
        precision: float | None = None,
    ) -> Self:
        """The figures of an evaluation, which ran on this machine.

        Args:
            evaluation: The evaluation.
            settings: Settings of its systems to show beside them, by name.
            precision: The precision to choose thresholds for; None chooses none.

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
        )

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """The summary that `to_dict` wrote.

        Raises:
            KeyError: A part is missing.
            TypeError: A part is of another kind.
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
        """As plain dicts, lists, strings and numbers, ready for JSON."""
        return asdict(self)


def write_summary(summary: Summary, path: Path) -> None:
    """Write a summary as JSON."""
    write_text(path, json.dumps(summary.to_dict(), indent=2, ensure_ascii=False) + "\n")


def read_summary(path: Path) -> Summary:
    """Read what `write_summary` wrote.

    Raises:
        InputError: The file cannot be read, or is something else.
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
        choice = replace(choice, points=tuple(spread(choice.points, THRESHOLDS)))
    return Row(result.name, figures, test, result.cost, choice)


def spread(points: Sequence[ThresholdPoint], count: int) -> list[ThresholdPoint]:
    """At most so many of the points, evenly spread, the first and the last among them."""
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
