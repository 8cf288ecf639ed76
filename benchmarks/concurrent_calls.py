"""32 concurrent `arank` calls of 20 documents beside one `rank_many`, turbo's shape."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from jina_rerank import LocalScorer, Reranker

from .measuring import Result, Target, interleave
from .shapes import save_jinabert
from .work import Texts, chunk_lengths

CONCURRENT = "concurrent arank calls"
MANY = "one rank_many"


def measure(rounds: int, *, quick: bool) -> Result:
    """Both, interleaved.

    Args:
        rounds: Rounds that count.
        quick: A quarter of the calls.
    """
    texts = Texts()
    calls = [texts.pairs(chunk_lengths(20, seed=number)) for number in range(8 if quick else 32)]
    with tempfile.TemporaryDirectory() as folder:
        reranker = Reranker(LocalScorer(save_jinabert(Path(folder) / "turbo")))
        reranker.warm_up()

        async def together() -> None:
            await asyncio.gather(*(reranker.arank(query, docs) for query, docs in calls))

        contenders = {
            CONCURRENT: lambda: asyncio.run(together()),
            MANY: lambda: reranker.rank_many(calls),
        }
        result = Result("concurrent_calls", f"{len(calls)} queries with 20 documents each")
        result.seconds = interleave(contenders, rounds)
    ratio = result.median(MANY) / result.median(CONCURRENT)
    result.targets = [Target("of rank_many's throughput", 0.9, ratio)]
    return result
