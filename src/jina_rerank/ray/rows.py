"""Scoring rows of Arrow tables: one text to a row, or a list of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from .._inputs import check_documents, check_query
from ..errors import ConfigurationError, InputError
from ..reranker import Reranker

ROWS = 1024
"""Rows that are scored at a time: enough to fill batches, few enough for memory."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of columns.

    Attributes:
        query: Strings.
        document: Strings, or lists of strings.
        score: What is added: a number, or a list of numbers in the order of the documents.
    """

    query: str
    document: str
    score: str

    @property
    def error(self) -> str:
        """The column beside it: why a row has no score."""
        return f"{self.score}_error"

    def extend(self, schema: pa.Schema) -> pa.Schema:
        """The schema of what comes out.

        Args:
            schema: That of what goes in.

        Raises:
            ConfigurationError: A column is missing, of the wrong type, or there already.
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
        """Tell whether a row has several documents."""
        kind = schema.field(self.document).type
        return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(
            kind.value_type
        )


def score_rows(reranker: Reranker, table: pa.Table, columns: Columns) -> pa.Table:
    """The rows with their scores.

    A row that cannot be scored, because a text is blank or null for instance, has no score and says
    why: one of them among millions is no reason to end.

    Args:
        reranker: What scores.
        table: Some 1,000 rows.
        columns: Their names.

    Raises:
        ConfigurationError: See `Columns.extend`.
        RerankError: The model failed.
    """
    schema = columns.extend(table.schema)
    lists = columns.has_lists(table.schema)
    scores: list[Any] = [None] * len(table)
    errors: list[str | None] = [None] * len(table)
    # Pairs of one query stand together in most files, and its tokens are found once for all.
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
    """The documents of a row that can be scored; errors name the column."""
    for name, value in ((columns.query, query), (columns.document, found)):
        if value is None:
            raise InputError(name, "is null")
    if isinstance(found, str) and not found.strip():
        raise InputError(columns.document, "is blank")
    check_query(query, columns.query)
    return check_documents(found if lists else [found], columns.document)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
