"""The figures of an evaluation without its texts: what JSON files hold and tables show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from ..._lines import read_text
from ..._output import write_text
from ...errors import InputError
from ..evaluate import Cost, Evaluation, SystemResult
from ..machine import processor
from ..measures import PairedTest, confidence_interval


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
    """

    name: str
    figures: Mapping[str, Figure]
    against_first_stage: PairedTest | None
    cost: Cost | None


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

    @classmethod
    def of(cls, evaluation: Evaluation, settings: Mapping[str, str] | None = None) -> Self:
        """The figures of an evaluation, which ran on this machine.

        Args:
            evaluation: The evaluation.
            settings: Settings of its systems to show beside them, by name.
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
            rows=tuple(_row(evaluation, result) for result in evaluation.results),
            jina_rerank=__version__,
            date=datetime.now(UTC).date().isoformat(),
            settings=dict(settings or {}),
            processor=processor(),
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


def _row(evaluation: Evaluation, result: SystemResult) -> Row:
    per_query, means = result.measured.per_query, result.measured.means
    figures = {
        name: Figure(means[name], *confidence_interval(list(per_query[name].values())))
        for name in evaluation.measures
    }
    first = evaluation.first_stage.name
    test = None if result.name == first else evaluation.compare(first, result.name)
    return Row(result.name, figures, test, result.cost)


def _maybe(kind: Any, fields: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - a dataclass
    return None if fields is None else kind(**fields)
