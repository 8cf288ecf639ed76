"""Training data: pairs of a query and a passage that answers it, grouped by where they are from."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A query and a passage that answers it.

    Attributes:
        query: The query.
        passage: The passage.
        source: Where they are from. Negatives are looked for in the same source.
    """

    query: str
    passage: str
    source: str


@dataclass(slots=True)
class Source:
    """The queries and passages of one source.

    Attributes:
        name: As in the pairs.
        passages: Each once.
        queries: Each once, with the positions of the passages that answer it.
    """

    name: str
    passages: list[str] = field(default_factory=list)
    queries: dict[str, list[int]] = field(default_factory=dict)


def read_pairs(path: Path) -> Iterator[TrainingPair]:
    """Read JSON Lines, plain or `.gz`: `query`, `passage` and, if there is one, `source`.

    Args:
        path: The file. Its name is the source of lines that name none.

    Raises:
        InputError: The file is not there, or a line does not hold a pair; names both.
    """
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _pair(line, f"{path}:{number}", name)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError("pairs", f"{path} cannot be read: {error}") from error


def _pair(line: str, where: str, name: str) -> TrainingPair:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise InputError("pairs", f"{where}: not JSON: {error}") from error
    if not isinstance(given, dict):
        raise InputError("pairs", f"{where}: must be an object with query and passage")
    for key in ("query", "passage"):
        if not isinstance(given.get(key), str) or not given[key].strip():
            raise InputError("pairs", f"{where}: {key} must be a text that is not blank")
    return TrainingPair(given["query"], given["passage"], str(given.get("source", name)))


def by_source(pairs: Iterable[TrainingPair]) -> list[Source]:
    """Group pairs, in the order in which their sources come first."""
    sources: dict[str, Source] = {}
    places: dict[tuple[str, str], int] = {}
    for pair in pairs:
        source = sources.setdefault(pair.source, Source(pair.source))
        key = (pair.source, pair.passage)
        if key not in places:
            places[key] = len(source.passages)
            source.passages.append(pair.passage)
        answers = source.queries.setdefault(pair.query, [])
        if places[key] not in answers:
            answers.append(places[key])
    return list(sources.values())
