"""Hard negatives: passages that BM25 finds for a query in its source, but that do not answer it.

The lists resemble a reranker's input in practice, the best results of a first stage. Random
passages would be too easy to tell from answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...scorers.bm25 import Bm25Index
from .pairs import Source

DEPTH = 100
NEAR = 15


@dataclass(frozen=True, slots=True)
class CandidateList:
    """A query and passages to be ranked.

    Attributes:
        source: The source's name.
        query: The query.
        passages: Positions in the list of all passages.
        labels: True for each passage that answers the query.
    """

    source: str
    query: str
    passages: Sequence[int]
    labels: Sequence[bool]


def mine(
    source: Source,
    first_passage: int,
    *,
    near: int = 5,
    far: int = 4,
    unrelated: int = 2,
    seed: int = 0,
) -> Iterator[CandidateList]:
    """Mine a candidate list for each query of a source.

    Args:
        source: Queries and passages.
        first_passage: Position of the source's first passage in the list of all passages.
        near: Number of negatives drawn from BM25's best 15.
        far: Number of negatives drawn from the rest of BM25's best 100.
        unrelated: Number of negatives drawn from the whole source.
        seed: Seed of random choices.
    """
    index = Bm25Index(source.passages)
    for query, answers in source.queries.items():
        chance = random.Random(f"{seed}-{source.name}-{query}")
        right = set(answers)
        found = [p for p in index.search(query, DEPTH + len(right)) if p not in right]
        chosen = chance.sample(answers, min(2, len(answers)))
        for pool, count in ((found[:NEAR], near), (found[NEAR:DEPTH], far)):
            chosen += chance.sample(pool, min(count, len(pool)))
        wanted = min(2, len(answers)) + near + far + unrelated
        # Unrelated passages also replace missing ones if BM25 finds too few for a query.
        for _ in range(10 * wanted):
            other = chance.randrange(len(source.passages))
            if len(chosen) < wanted and other not in right and other not in chosen:
                chosen.append(other)
        yield CandidateList(
            source.name,
            query,
            [first_passage + p for p in chosen],
            [p in right for p in chosen],
        )
