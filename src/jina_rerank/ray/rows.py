"""Scoring rows of Arrow tables, with one document or a list of documents per row."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .._inputs import check_documents, check_query
from ..errors import ConfigurationError, InputError
from ..reranker import Reranker

ROWS = 1024
"""Number of rows that are scored at a time: enough to fill batches, few enough for memory."""


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

    A row that cannot be scored, for example because a text is blank or null, has no score, and the
    reason as its error: one such row among millions must not end the run.

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
    # Rows of one query are adjacent in most files; grouped, the query is tokenized once.
    places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    texts: defaultdict[str, list[str]] = defaultdict(list)
    queries = table.column(columns.query).to_pylist()
    for row, (query, found) in enumerate(
        zip(queries, table.column(columns.document).to_pylist(), strict=True)
    ):
        try:
            documents = _check(query, found, lists, columns)
        except InputError as error:
            errors[row] = str(error)
            continue
        scores[row] = [0.0] * len(documents)
        places[query] += [(row, place) for place in range(len(documents))]
        texts[query] += documents
    for query, ranking in zip(texts, reranker.rank_many(list(texts.items())), strict=True):
        for hit in ranking:
            row, place = places[query][hit.index]
            scores[row][place] = hit.score
        if ranking.degraded is not None:
            for row, _ in places[query]:
                scores[row], errors[row] = None, ranking.degraded
    if not lists:
        scores = [None if found is None else found[0] for found in scores]
    return table.append_column(
        schema.field(columns.score), pa.array(scores, schema.field(columns.score).type)
    ).append_column(schema.field(columns.error), pa.array(errors, pa.string()))


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
