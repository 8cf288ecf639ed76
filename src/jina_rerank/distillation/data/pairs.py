"""Training data: pairs of a query and a passage that answers it, grouped by source."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..._inputs import check_text
from ..._lines import read_objects
from ...errors import InputError


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A query and a passage that answers it.

    Attributes:
        query: The query.
        passage: The passage.
        source: Name of the pair's source. Negatives are taken from the same source.
    """

    query: str
    passage: str
    source: str


@dataclass(slots=True)
class Source:
    """The queries and passages of one source.

    Attributes:
        name: Name of the source, as in the pairs.
        passages: Distinct passages.
        queries: Distinct queries, each with the positions of the passages that answer it.
    """

    name: str
    passages: list[str] = field(default_factory=list)
    queries: dict[str, list[int]] = field(default_factory=dict)


def read_pairs(path: Path) -> Iterator[TrainingPair]:
    """Read JSON Lines, plain or `.gz`, with `query`, `passage` and optionally `source`.

    Args:
        path: The file. Its name is the source of lines without `source`.

    Raises:
        InputError: The file cannot be read, or a line does not hold a pair; the message names the
            line.
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
    """Return a source with all passages and a random choice of its queries.

    Args:
        source: The source, which is not changed.
        count: Maximum number of queries, at least 1.
        seed: Seed of the choice.
    """
    chosen = list(source.queries)
    if len(chosen) > count:
        chosen = random.Random(f"{source.name}-{seed}").sample(chosen, count)
    return replace(source, queries={query: source.queries[query] for query in chosen})


def by_source(pairs: Iterable[TrainingPair]) -> list[Source]:
    """Group pairs by source, in the order in which the sources first occur."""
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
