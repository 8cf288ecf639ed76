"""`rerank_dataset`: scores for more rows than one process can take."""

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
from ..scorers.base import CacheableScorer, Scorer
from .parts import Folder, Part
from .rows import ROWS, Columns, score_rows

MOST_TASKS = 1000
"""Into how many tasks the parts are divided at most: Ray plans each of them."""


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
    """Score every row, on as many processes as the cluster has room for.

    All columns are kept and two are added: the score, and `score_error` beside it. A row with
    several documents has a list of scores in their order. A row that cannot be scored, because a
    text is blank or null for instance, has no score and says why.

    Parquet in, Parquet out: each row group becomes a file under the name of its own, which appears
    when it is complete. A run that was killed is resumed by the same call: what is there is not
    computed again. Files that have come since are added; a file that has changed is refused, and
    so is another model. One run at a time may write to a folder.

    Args:
        source: A Parquet file or a folder of them, as a path or an address such as
            `s3://bucket/folder`; or a dataset of Ray's.
        output: The folder for the results, with a path as source; every node must reach both.
            A dataset is not written, and cannot be resumed.
        model: As for `Reranker`; every node, this one included, must find it.
        query_column: Strings.
        document_column: Strings, or lists of strings.
        score_column: What to call the score.
        actors: Processes that hold the model.
        num_cpus: CPUs for each of them, and threads that it computes in.
        num_gpus: GPUs for each of them; 0.5 puts two of them on one.

    Returns:
        With a path, what the output holds when all is done. With a dataset, one that scores when it
        is consumed.

    Raises:
        ConfigurationError: A column is missing, of the wrong type, or there already; a number is
            out of range; there is nothing to read; the output holds something else; or there is
            one too many or too few of source and output.
        RerankError: The model failed. With a dataset, when it is consumed, inside Ray's own.
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
    folder.claim({"model": _identify(scorer), **_names(columns)})
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


def _identify(scorer: Scorer) -> str:
    """Fields that tell a model from all others."""
    if not isinstance(scorer, CacheableScorer):
        return repr(scorer)
    if '"weights": null' in scorer.fingerprint:
        # Not on this machine yet. Loaded, it can tell which it is, before and after a kill alike.
        scorer.warm_up()
    return scorer.fingerprint


def _names(columns: Columns) -> dict[str, str]:
    return {
        "query_column": columns.query,
        "document_column": columns.document,
        "score_column": columns.score,
    }


class _ScoreTables:
    """Holds the model in a process of Ray's."""

    def __init__(self, scorer: Scorer, columns: Columns) -> None:
        self._reranker = Reranker(scorer)
        self._columns = columns

    def __call__(self, table: pa.Table) -> pa.Table:
        return score_rows(self._reranker, table, self._columns)


class _ScoreParts:
    """Holds the model in a process of Ray's, and makes parts by their numbers."""

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
            # Not raised: what Ray makes of it has another type, and ours only in its text.
            return {"failure": [pickle.dumps(error)]}
        return {"failure": [b""]}

    def _score(self, file: pq.ParquetFile, group: int | None) -> Iterator[pa.Table]:
        groups = [] if group is None else [group]
        for batch in file.iter_batches(ROWS, row_groups=groups):
            yield score_rows(self._reranker, pa.Table.from_batches([batch]), self._columns)
