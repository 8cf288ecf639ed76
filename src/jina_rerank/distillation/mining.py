"""Hard negatives: what BM25 finds for a query in the same source and does not answer it.

The lists look like what a reranker is given in practice, the best of a first stage, and not like
random passages, which any model tells apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..evaluation.first_stage import Bm25Index
from .data import Source

DEPTH = 100
NEAR = 15


@dataclass(frozen=True, slots=True)
class CandidateList:
    """A query and passages to be ranked.

    Attributes:
        source: The source's name.
        query: The query.
        passages: Positions in the list of all passages.
        labels: For each, whether it answers the query.
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
    strange: int = 2,
    seed: int = 0,
) -> Iterator[CandidateList]:
    """A list for each query of a source.

    Args:
        source: Its queries and passages.
        first_passage: Where its passages begin in the list of all passages.
        near: Negatives drawn from BM25's best 15.
        far: Negatives drawn from the rest of its best 100.
        strange: Negatives drawn from the whole source.
        seed: Seed of what is drawn.
    """
    index = Bm25Index({str(place): text for place, text in enumerate(source.passages)})
    for query, answers in source.queries.items():
        chance = random.Random(f"{seed}-{source.name}-{query}")
        right = set(answers)
        found = [int(p) for p in index.search(query, DEPTH + len(right)) if int(p) not in right]
        chosen = chance.sample(answers, min(2, len(answers)))
        for pool, count in ((found[:NEAR], near), (found[NEAR:DEPTH], far)):
            chosen += chance.sample(pool, min(count, len(pool)))
        wanted = min(2, len(answers)) + near + far + strange
        # A query that BM25 finds little for gets strange passages instead.
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
