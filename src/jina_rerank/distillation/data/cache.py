"""Cache of candidate lists and teachers' scores, in Parquet files, which resumes after a kill.

    passages.parquet              source, text
    candidates.parquet            source, query, passages (row numbers), labels
    scores/NAME/00000.parquet     a teacher's scores of 1,000 lists, in their order

The metadata of a file holds a hash of the data that it was made from. A file made from other lists
or by another teacher is made again.
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..._output import writing
from ...errors import InputError
from ...scorers.base import Scorer, identity_of
from ..teachers import ask
from .negatives import CandidateList, mine
from .pairs import Source

logger = logging.getLogger(__name__)

LISTS_PER_PART = 1000
MADE_FROM = b"made_from"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Training data of a student.

    Attributes:
        passages: All texts.
        lists: The candidate lists.
        scores: Scores of each list, by teacher.
    """

    passages: Sequence[str]
    lists: Sequence[CandidateList]
    scores: Mapping[str, Sequence[Sequence[float]]]


def digest_sources(sources: Sequence[Source], seed: int) -> str:
    """Compute a digest of all that candidate lists are mined from."""
    hashed = hashlib.sha256(str(seed).encode())
    for source in sources:
        for text in (source.name, *source.passages, *source.queries, str(source.queries.values())):
            hashed.update(text.encode() + b"\0")
    return hashed.hexdigest()


def digest_scores(scores: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Compute a digest of the teachers' scores of all lists."""
    hashed = hashlib.sha256()
    for name, lists in scores.items():
        hashed.update(name.encode() + b"\0")
        for own in lists:
            hashed.update(array("d", own).tobytes())
    return hashed.hexdigest()


def prepare_lists(
    sources: Sequence[Source], folder: Path, *, seed: int = 0, progress: bool = False
) -> tuple[list[str], list[CandidateList]]:
    """Mine candidate lists for all sources, or read them if they were mined from the same sources.

    Args:
        sources: Queries and passages.
        folder: Folder of the Parquet files.
        seed: Seed of random choices.
        progress: True to show a progress bar on standard error.

    Raises:
        InputError: No source has a query, no query has a passage that does not answer it, or the
            files cannot be written.
    """
    if not any(source.queries for source in sources):
        raise InputError("pairs", "there are none to train on")
    made_from = digest_sources(sources, seed)
    texts, lists = folder / "passages.parquet", folder / "candidates.parquet"
    if _made_from(lists) == made_from and _made_from(texts) == made_from:
        return _read_lists(texts, lists)
    first, found = 0, list[CandidateList]()
    for source in tqdm(sources, desc="mining", unit="source", disable=not progress):
        found += mine(source, first, seed=seed)
        first += len(source.passages)
    if all(all(one.labels) for one in found):
        raise InputError(
            "pairs",
            "no query has a passage of its source that does not answer it, so there is nothing to "
            "rank; add pairs with other passages",
        )
    names = [source.name for source in sources for _ in source.passages]
    passages = [text for source in sources for text in source.passages]
    _write(texts, {"source": names, "text": passages}, made_from)
    columns: dict[str, Sequence[object]] = {
        "source": [one.source for one in found],
        "query": [one.query for one in found],
        "passages": [list(one.passages) for one in found],
        "labels": [list(one.labels) for one in found],
    }
    _write(lists, columns, made_from)
    return passages, found


def teach(
    name: str,
    teacher: Scorer,
    passages: Sequence[str],
    lists: Sequence[CandidateList],
    folder: Path,
    *,
    progress: bool = False,
) -> list[list[float]]:
    """Compute a teacher's scores of all lists; parts that are on disk are read.

    Args:
        name: Name of the teacher, and of its folder.
        teacher: The teacher, which computes the missing scores.
        passages: All texts.
        lists: The lists to be scored.
        folder: The folder that contains `scores/`.
        progress: True to show a progress bar on standard error.

    Raises:
        InputError: The files cannot be written.
        RerankError: As the teacher.
    """
    own = folder / "scores" / name
    scores: list[list[float]] = []
    identity = identity_of(teacher)
    starts = range(0, len(lists), LISTS_PER_PART)
    for start in tqdm(starts, desc=f"asking {name}", unit="part", disable=not progress):
        part = lists[start : start + LISTS_PER_PART]
        questions = [(one.query, [passages[p] for p in one.passages]) for one in part]
        hashed = hashlib.sha256(identity.encode())
        for query, texts in questions:
            hashed.update("\0".join([query, *texts, ""]).encode())
        made_from = hashed.hexdigest()
        path = own / f"{start // LISTS_PER_PART:05}.parquet"
        if _made_from(path) == made_from:
            scores += pq.read_table(path)["scores"].to_pylist()
            continue
        new = ask(teacher, questions)
        _write(path, {"scores": new}, made_from)
        scores += new
    return scores


def _read_lists(texts: Path, lists: Path) -> tuple[list[str], list[CandidateList]]:
    rows = pq.read_table(lists).to_pylist()
    passages: list[str] = pq.read_table(texts)["text"].to_pylist()
    return passages, [CandidateList(**row) for row in rows]


def _write(path: Path, columns: Mapping[str, Sequence[object]], made_from: str) -> None:
    table = pa.table(columns).replace_schema_metadata({MADE_FROM: made_from})
    new = path.with_suffix(".new")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, new, compression="zstd")
        new.replace(path)


def _made_from(path: Path) -> str | None:
    try:
        metadata: dict[bytes, bytes] = pq.read_schema(path).metadata or {}
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        logger.warning("%s is made anew, since it cannot be read: %s", path, error)
        return None
    return metadata.get(MADE_FROM, b"").decode()
