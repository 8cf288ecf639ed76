"""`rerank_dataset`: score more rows than one process can."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from os import PathLike
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from ray.data import ActorPoolStrategy, Dataset

from .._numbers import check_amount, check_count
from ..errors import ConfigurationError, RerankError
from ..reranker import Reranker
from ..scorers.base import Scorer, identity_of
from .parts import Folder, Part
from .rows import ROWS, Columns, score_rows

MOST_TASKS = 1000
"""Maximum number of tasks into which the parts are divided, since Ray plans each task."""


def rerank_dataset(
    source: Dataset | str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    model: str | PathLike[str] | Scorer | None = None,
    query_column: str = "query",
    document_column: str = "document",
    score_column: str = "score",
    actors: int = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> Dataset:
    """Score every row of a dataset, on several processes of a Ray cluster.

    All columns are kept and two are added: the score, and `score_error`. A row with several
    documents has a list of scores in their order. A row that cannot be scored, for example because
    a text is blank, null or refused as too long, has no score, and the reason in `score_error`.

    With Parquet files as source, each row group becomes a Parquet file, which appears when it is
    complete. A run that was killed is resumed by the same call, which does not compute existing
    files again. New source files are added; a changed source file or another model is refused. A
    scorer of your own without a `fingerprint` is recognized by its class and `model`, or by its
    `repr` if it defines one. Only one run may write to a folder at a time.

    Args:
        source: A Parquet file or a folder of them, as a path or an address such as
            `s3://bucket/folder`; or a Ray dataset.
        output: The folder for the results if the source is a path; every node must have access to
            both. The result of a dataset is not written, and cannot be resumed.
        model: Model as for `Reranker`; every node, including this one, must have access to it.
        query_column: Name of the column of queries, which are strings.
        document_column: Name of the column of documents, which are strings or lists of strings.
        score_column: Name of the new column of scores.
        actors: Number of processes with the model.
        num_cpus: Number of CPUs for each process, and of threads in which it computes.
        num_gpus: Number of GPUs for each process; with 0.5 two processes share one.

    Returns:
        With a path, the dataset in the output folder, when all is done. With a dataset, a dataset
        that is scored when it is consumed.

    Raises:
        ConfigurationError: A column is missing, has the wrong type, or already exists; a number is
            out of range; there is nothing to read; the output holds something else; a dataset has
            an output, or a path has none.
        RerankError: The model failed. With a dataset, it is raised inside Ray's error when the
            dataset is consumed.
    """
    scorer = Reranker(model).scorer
    columns = Columns(query_column, document_column, score_column)
    resources: dict[str, Any] = {
        "compute": ActorPoolStrategy(size=check_count(actors, "actors")),
        "num_cpus": check_amount(num_cpus, "num_cpus"),
        "num_gpus": check_amount(num_gpus, "num_gpus"),
    }
    if isinstance(source, Dataset):
        if output is not None:
            raise ConfigurationError(
                "output: a dataset cannot be resumed. Write it as Parquet and pass its path, or "
                "leave output out and write what comes back"
            )
        return source.map_batches(
            _ScoreTables,
            fn_constructor_args=(scorer, columns),
            batch_size=ROWS,
            batch_format="pyarrow",
            zero_copy_batch=True,
            **resources,
        )
    if output is None:
        raise ConfigurationError("output is missing: where shall the scores of these files go?")
    folder = Folder(source, output)
    columns.extend(folder.open(folder.files[0].path).schema_arrow)
    folder.claim({"model": identity_of(scorer), **_names(columns)})
    parts = folder.missing()
    if parts:
        numbers = ray.data.range(len(parts), override_num_blocks=min(len(parts), MOST_TASKS))
        scored = numbers.map_batches(
            _ScoreParts,
            fn_constructor_args=(scorer, columns, folder, parts),
            batch_size=1,
            **resources,
        )
        for row in scored.iter_rows():
            if row["failure"]:
                failure: RerankError = pickle.loads(row["failure"])  # noqa: S301 - made below
                raise failure
    return ray.data.read_parquet(folder.output, filesystem=folder.output_filesystem)


def _names(columns: Columns) -> dict[str, str]:
    return {
        "query_column": columns.query,
        "document_column": columns.document,
        "score_column": columns.score,
    }


class _ScoreTables:
    """Scores tables in a Ray process that keeps the model."""

    def __init__(self, scorer: Scorer, columns: Columns) -> None:
        self._reranker = Reranker(scorer)
        self._columns = columns

    def __call__(self, table: pa.Table) -> pa.Table:
        return score_rows(self._reranker, table, self._columns)


class _ScoreParts:
    """Scores parts by their numbers in a Ray process that keeps the model."""

    def __init__(self, scorer: Scorer, columns: Columns, folder: Folder, parts: list[Part]) -> None:
        self._reranker = Reranker(scorer)
        self._columns = columns
        self._folder = folder
        self._parts = parts

    def __call__(self, numbers: dict[str, Any]) -> dict[str, Any]:
        (number,) = numbers["id"]
        part = self._parts[number]
        try:
            with self._folder.open(part.source) as file:
                schema = self._columns.extend(file.schema_arrow)
                self._folder.write(part, schema, self._score(file, part.group))
        except RerankError as error:
            # Not raised: Ray would raise another type, with this error only in its text.
            return {"failure": [pickle.dumps(error)]}
        return {"failure": [b""]}

    def _score(self, file: pq.ParquetFile, group: int | None) -> Iterator[pa.Table]:
        groups = [] if group is None else [group]
        for batch in file.iter_batches(ROWS, row_groups=groups):
            yield score_rows(self._reranker, pa.Table.from_batches([batch]), self._columns)
