"""What storing a model more compactly does to its rankings.

    python -m benchmarks.storage CHECKPOINT [PACKED] [--collection FOLDER] [--every N]

Reranks BM25's best 50 of a collection (the coffee questions in examples/data by default) with
the checkpoint in float32 and bfloat16, and with the packed one (the embedded model by default),
and compares nDCG@10, Kendall's tau of the rankings, and the logits.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from scipy.stats import kendalltau

from jina_rerank import LocalScorer, Reranker
from jina_rerank.scorers.local import embedded_model_folder

from .first_stage import COFFEE, Candidates, bm25_candidates

Logits = dict[str, dict[str, float]]


def main() -> None:
    """Print one line for each way of storing and computing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("packed", type=Path, nargs="?", default=embedded_model_folder())
    parser.add_argument("--collection", type=Path, default=COFFEE)
    parser.add_argument("--every", type=int, default=1, help="take every Nth query")
    args = parser.parse_args()

    candidates = bm25_candidates(args.collection, depth=50, every=args.every)
    print(f"{args.collection.name}: {len(candidates.queries)} queries, BM25's best 50")
    print(f"{'':30}  nDCG@10     tau  largest logit difference  seconds")
    print(f"{'BM25':30}  {candidates.ndcg(candidates.by_rank()):7.4f}")
    reference: Logits = {}
    for name, scorer in {
        "checkpoint, float32": LocalScorer(args.checkpoint, dtype="float32", max_length=512),
        "checkpoint, bfloat16": LocalScorer(args.checkpoint, dtype="bfloat16", max_length=512),
        "packed, float32": LocalScorer(args.packed, dtype="float32", max_length=512),
        "packed, bfloat16": LocalScorer(args.packed, dtype="bfloat16", max_length=512),
    }.items():
        started = time.perf_counter()
        logits = rerank(candidates, scorer)
        seconds = time.perf_counter() - started
        reference = reference or logits
        tau, difference = compare(reference, logits)
        print(
            f"{name:30}  {candidates.ndcg(logits):7.4f}  {tau:6.4f}  {difference:24.3f}"
            f"  {seconds:7.0f}"
        )


def rerank(candidates: Candidates, scorer: LocalScorer) -> Logits:
    """The logit of every candidate, by query id and document id."""
    with Reranker(scorer) as reranker:
        reranked = candidates.rerank(reranker)
    return {q: {d: hit.logit or 0.0 for d, hit in hits.items()} for q, hits in reranked.items()}


def compare(reference: Logits, logits: Logits) -> tuple[float, float]:
    """The mean Kendall tau over queries, and the largest difference of any logit."""
    taus, differences = [], []
    for query, expected in reference.items():
        found = [logits[query][document] for document in expected]
        taus.append(float(kendalltau(list(expected.values()), found).statistic))
        differences += [abs(a - b) for a, b in zip(expected.values(), found, strict=True)]
    return sum(taus) / len(taus), max(differences)


if __name__ == "__main__":
    main()
