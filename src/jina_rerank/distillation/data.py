"""Training data: pairs of a query and a passage that answers it, grouped by where they are from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from .._inputs import check_text
from .._lines import read_objects
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
        InputError: The file cannot be read, or a line does not hold a pair; it names the line.
    """
    name = path.name.removesuffix(".gz").removesuffix(".jsonl")
    for where, value in read_objects(path):
        yield TrainingPair(
            _text(value.get("query"), f"{where}: query"),
            _text(value.get("passage"), f"{where}: passage"),
            name if value.get("source") is None else _text(value["source"], f"{where}: source"),
        )


def _text(given: object, where: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise InputError(where, f"must be a text that is not blank, not {given!r}")
    return check_text(given, where)


def with_fewer_queries(source: Source, count: int, seed: int) -> Source:
    """A source with all passages, and as many queries at most.

    Args:
        source: Left as it is.
        count: How many, at least 1.
        seed: Seed of the choice.
    """
    chosen = list(source.queries)
    if len(chosen) > count:
        chosen = random.Random(f"{source.name}-{seed}").sample(chosen, count)
    return replace(source, queries={query: source.queries[query] for query in chosen})


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
