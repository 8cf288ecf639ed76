"""First stages: a retriever's candidates, computed by BM25 or read from a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from .._inputs import check_positive
from .._lines import read_lines, read_objects, take_id
from .._output import write_text, writing
from ..errors import InputError
from ..scorers.bm25 import Bm25Index
from .collection import Collection

Run: TypeAlias = Mapping[str, Mapping[str, float]]
"""Scores by query id and document id; higher is better, ties keep the order of the mapping."""


LARGEST_SCORE = 3e38
"""Largest magnitude of a score. trec_eval's 32-bit floats make larger ones infinite, and equal."""


def best_first(scores: Mapping[str, float]) -> list[str]:
    """Sort document ids by descending score; ties keep the order of the mapping."""
    return sorted(scores, key=scores.__getitem__, reverse=True)


def bm25(collection: Collection, depth: int = 100, *, ignore_identical_ids: bool = False) -> Run:
    """Search the documents of a collection for its queries with BM25; see `Bm25Index`.

    Args:
        collection: The collection.
        depth: Number of documents to keep for a query. There are fewer if fewer documents share a
            word with the query.
        ignore_identical_ids: As for `evaluate`; another document replaces the one left out.

    Raises:
        InputError: `depth` is below 1.
        ConfigurationError: The extra `eval` is missing.
    """
    depth = check_positive(depth, "depth")
    index = Bm25Index(list(collection.documents.values()))
    identifiers = list(collection.documents)
    run = {}
    for query, text in collection.queries.items():
        places = index.search(text, depth + ignore_identical_ids)
        found = {identifiers[place]: score for place, score in places.items()}
        if ignore_identical_ids:
            found.pop(query, None)
        run[query] = dict(islice(found.items(), depth))
    return run


def read_first_stage(path: Path) -> Run:
    """Read a first stage from a file: candidates if its name ends in .jsonl, else a TREC run.

    Args:
        path: The file; it may be gzipped, with `.gz` behind its name.

    Raises:
        InputError: The file cannot be read, or a line cannot be used; the message names the line.
    """
    is_candidates = path.name.lower().removesuffix(".gz").endswith(".jsonl")
    return read_candidates(path) if is_candidates else read_run(path)


def read_run(path: Path) -> Run:
    """Read a run in TREC's format: query id, Q0, document id, rank, score, tag.

    Documents are ordered by score, as in trec_eval, and not by rank; ties keep the order of the
    file.

    Args:
        path: The file.

    Raises:
        InputError: The file cannot be read, or a line cannot be used; the message names the line.
    """
    run: dict[str, dict[str, float]] = {}
    for where, line in read_lines(path):
        fields = line.split()
        if len(fields) != 6:
            raise InputError(
                where, "must be query id, Q0, document id, rank, score and tag, as TREC has it"
            )
        query, _, document, _, written, _ = fields
        try:
            score = float(written)
        except ValueError:
            raise InputError(where, f"has the score {written!r}, which is no number") from None
        # Not >, which is false for NaN.
        if not abs(score) <= LARGEST_SCORE:
            raise InputError(where, f"has the score {written!r}, which cannot be ordered")
        found = run.setdefault(query, {})
        if document in found:
            raise InputError(where, f"has the document {document!r} for {query!r} again")
        found[document] = score
    if not run:
        raise InputError(str(path), "is empty")
    return run


def read_candidates(path: Path) -> Run:
    """Read JSON Lines with candidates, best first.

    A line is `{"query_id": "q1", "document_ids": ["d7", "d3"]}`.

    Args:
        path: The file.

    Returns:
        Scores that only hold the order: from the number of a query's candidates down to 1.

    Raises:
        InputError: The file cannot be read, or a line cannot be used; the message names the line.
    """
    run: dict[str, dict[str, float]] = {}
    for where, value in read_objects(path):
        query = take_id(value, "query_id", where)
        documents = value.get("document_ids")
        if not isinstance(documents, list):
            raise InputError(where, "must have a list of identifiers under 'document_ids'")
        found = [take_id({"document_ids": one}, "document_ids", where) for one in documents]
        if query in run or len(set(found)) != len(found):
            raise InputError(where, f"has the query {query!r} or one of its documents twice")
        run[query] = {document: float(len(found) - i) for i, document in enumerate(found)}
    if not run:
        raise InputError(str(path), "is empty")
    return run


def write_run(run: Run, path: Path, tag: str) -> None:
    """Write a run in TREC's format, so that trec_eval reads the same order.

    trec_eval reads scores as 32-bit floats and orders ties by document id. A score that would
    tie with the previous one is therefore written as the next smaller 32-bit float.

    Args:
        run: The scores.
        path: The file; an existing one is replaced.
        tag: Tag in the last column; blanks in it become underscores.

    Raises:
        InputError: An identifier contains a blank, which the format does not allow; or the file
            cannot be written.
    """
    import numpy as np

    tag = "_".join(tag.split()) or "run"
    lines = []
    for query, scores in run.items():
        check_identifiers([query, *scores], path)
        previous = np.float32(np.inf)
        for rank, document in enumerate(best_first(scores), 1):
            below = np.nextafter(previous, np.float32(-np.inf))
            previous = min(np.float32(scores[document]), below)
            lines.append(f"{query} Q0 {document} {rank} {previous!s} {tag}\n")
    with writing(path):
        write_text(path, "".join(lines))


def check_identifiers(identifiers: Iterable[str], path: Path) -> None:
    """Check that identifiers can be written in TREC's format.

    Args:
        identifiers: Identifiers of queries and documents.
        path: File of the run, for the message.

    Raises:
        InputError: An identifier contains a blank.
    """
    for identifier in identifiers:
        if len(identifier.split()) != 1:
            raise InputError(str(path), f"cannot hold the identifier {identifier!r}: it has blanks")
