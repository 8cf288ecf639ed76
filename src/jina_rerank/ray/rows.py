"""Scoring rows of Arrow tables, with one document or a list of documents per row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa

from .._inputs import check_documents, check_query
from ..errors import ConfigurationError, InputError
from ..reranker import Reranker

ROWS = 1024
"""Number of rows that are scored at a time: enough to fill batches, few enough for memory."""

Pair: TypeAlias = tuple[str, list[str]]
"""The query and the documents of a row."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns.

    Attributes:
        query: Name of the column of queries, which are strings.
        document: Name of the column of documents, which are strings or lists of strings.
        score: Name of the new column: a number, or a list of numbers in the order of the documents.
    """

    query: str
    document: str
    score: str

    @property
    def error(self) -> str:
        """Name of the new column with the reason why a row has no score."""
        return f"{self.score}_error"

    def extend(self, schema: pa.Schema) -> pa.Schema:
        """Return the schema of the output.

        Args:
            schema: Schema of the input.

        Raises:
            ConfigurationError: A column is missing, has the wrong type, or already exists.
        """
        for name in (self.query, self.document):
            if name not in schema.names:
                raise ConfigurationError(
                    f"there is no column {name!r}; there are: {', '.join(schema.names)}"
                )
        for name in (self.score, self.error):
            if name in schema.names:
                raise ConfigurationError(
                    f"there is a column {name!r} already; name another in score_column"
                )
        if not _is_text(schema.field(self.query).type):
            raise ConfigurationError(
                f"column {self.query!r} must hold strings, not {schema.field(self.query).type}"
            )
        kind = schema.field(self.document).type
        if not _is_text(kind) and not self.has_lists(schema):
            raise ConfigurationError(
                f"column {self.document!r} must hold strings or lists of strings, not {kind}"
            )
        scores = pa.list_(pa.float64()) if self.has_lists(schema) else pa.float64()
        return schema.append(pa.field(self.score, scores)).append(pa.field(self.error, pa.string()))

    def has_lists(self, schema: pa.Schema) -> bool:
        """Return True if a row has several documents."""
        kind = schema.field(self.document).type
        return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(
            kind.value_type
        )


def score_rows(reranker: Reranker, table: pa.Table, columns: Columns) -> pa.Table:
    """Score the rows of a table, and return it with two more columns.

    A row that cannot be scored, for example because a text is blank, null or too long, has no
    score, and the reason as its error: one such row among millions must not end the run.

    Args:
        reranker: The reranker.
        table: About 1,000 rows.
        columns: Names of the columns.

    Raises:
        ConfigurationError: See `Columns.extend`.
        RerankError: The model failed.
    """
    schema = columns.extend(table.schema)
    lists = columns.has_lists(table.schema)
    scores: list[Any] = [None] * len(table)
    errors: list[str | None] = [None] * len(table)
    rows: dict[int, Pair] = {}
    queries = table.column(columns.query).to_pylist()
    for row, (query, found) in enumerate(
        zip(queries, table.column(columns.document).to_pylist(), strict=True)
    ):
        try:
            rows[row] = query, _check(query, found, lists, columns)
        except InputError as error:
            errors[row] = str(error)
    for row, answer in _score(reranker, rows):
        if isinstance(answer, InputError):
            errors[row] = _reason(answer, lists, columns)
        elif isinstance(answer, str):
            errors[row] = answer
        else:
            scores[row] = answer if lists else answer[0]
    return table.append_column(
        schema.field(columns.score), pa.array(scores, schema.field(columns.score).type)
    ).append_column(schema.field(columns.error), pa.array(errors, pa.string()))


def _score(
    reranker: Reranker, rows: Mapping[int, Pair]
) -> Iterator[tuple[int, list[float] | str | InputError]]:
    """Score rows, and yield each row's number with its scores or with the reason why it has none.

    Where the reranker refuses a row, both halves of the rows are scored again by themselves, until
    the row is found: the others still share batches.
    """
    # Rows of one query are adjacent in most files; grouped, the query is tokenized once.
    places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for row, (query, documents) in rows.items():
        places[query] += [(row, place) for place in range(len(documents))]
        texts[query] += documents
    try:
        rankings = reranker.rank_many(list(texts.items()))
    except InputError as error:
        if len(rows) == 1:
            (row,) = rows
            yield row, error
            return
        numbers = list(rows)
        middle = len(numbers) // 2
        for half in (numbers[:middle], numbers[middle:]):
            yield from _score(reranker, {row: rows[row] for row in half})
        return
    scores = {row: [0.0] * len(documents) for row, (_, documents) in rows.items()}
    degraded: dict[int, str] = {}
    for query, ranking in zip(texts, rankings, strict=True):
        for hit in ranking:
            row, place = places[query][hit.index]
            scores[row][place] = hit.score
        if ranking.degraded is not None:
            degraded |= {row: ranking.degraded for row, _ in places[query]}
    yield from ((row, degraded.get(row, found)) for row, found in scores.items())


def _reason(error: InputError, lists: bool, columns: Columns) -> str:
    """Return the message of an error about a row, with the column's name as the argument."""
    of_row = "pairs[0]."
    if not error.argument.startswith(of_row):  # a service has words of its own
        return str(error)
    argument = error.argument.removeprefix(of_row)
    if argument == "query":
        return f"{columns.query}: {error.problem}"
    place = argument.removeprefix("documents") if lists else ""
    return f"{columns.document}{place}: {error.problem}"


def _check(query: object, found: object, lists: bool, columns: Columns) -> list[str]:
    """Check a row, and return its documents; errors name the column."""
    for name, value in ((columns.query, query), (columns.document, found)):
        if value is None:
            raise InputError(name, "is null")
    if isinstance(found, str) and not found.strip():
        raise InputError(columns.document, "is blank")
    check_query(query, columns.query)
    return check_documents(found if lists else [found], columns.document)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
