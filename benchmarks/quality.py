"""What reranking with a local model does to BM25's order on judged collections.

    python -m benchmarks.quality [FOLDER ...] [--model NAME] [--every N] [--max-length TOKENS]

FOLDER is a collection in BEIR layout; the default is the coffee questions in examples/data,
which the embedded model was trained on. Prints nDCG@10 and MRR@10 by ir-measures, before and
after, and for how many queries nDCG@10 rose and fell.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ir_measures
from ir_measures import RR, nDCG

from jina_rerank import LocalScorer, Reranker

from .first_stage import COFFEE, Candidates, bm25_candidates

MEASURES = [nDCG @ 10, RR @ 10]


def main() -> None:
    """Print one line for each collection."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="*", default=[COFFEE])
    parser.add_argument("--model", default=None)
    parser.add_argument("--every", type=int, default=1, help="take every Nth query")
    parser.add_argument("--depth", type=int, default=50)
    parser.add_argument("--max-length", type=int, default=512)
    args = parser.parse_args()

    print(
        "collection      queries  nDCG@10 before  after   MRR@10 before  after  rose  fell  pairs/s"
    )
    with Reranker(LocalScorer(args.model, max_length=args.max_length)) as reranker:
        reranker.warm_up()
        for folder in args.folders:
            candidates = bm25_candidates(folder, args.depth, args.every)
            started = time.perf_counter()
            reranked = candidates.rerank(reranker)
            seconds = time.perf_counter() - started
            after = {q: {d: hit.score for d, hit in hits.items()} for q, hits in reranked.items()}
            report(folder.name, candidates, candidates.by_rank(), after, seconds)


def report(
    name: str,
    candidates: Candidates,
    before: dict[str, dict[str, float]],
    after: dict[str, dict[str, float]],
    seconds: float,
) -> None:
    """Print one collection's line."""
    was, now = (
        ir_measures.calc_aggregate(MEASURES, candidates.qrels, run) for run in (before, after)
    )
    per_query = [
        {m.query_id: m.value for m in ir_measures.iter_calc([nDCG @ 10], candidates.qrels, run)}
        for run in (before, after)
    ]
    rose = sum(per_query[1][query] > value for query, value in per_query[0].items())
    fell = sum(per_query[1][query] < value for query, value in per_query[0].items())
    pairs = sum(map(len, candidates.found.values()))
    print(
        f"{name:15} {len(candidates.queries):7}  {was[nDCG @ 10]:14.4f}  {now[nDCG @ 10]:.4f}"
        f"  {was[RR @ 10]:13.4f}  {now[RR @ 10]:.4f}  {rose:4}  {fell:4}  {pairs / seconds:7.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
