"""Measure what storing a model more compactly does to its rankings.

    python -m benchmarks.storage CHECKPOINT [PACKED] [--collection FOLDER] [--queries N]

Reranks BM25's best 50 of a collection (the coffee questions in examples/data by default) with
the checkpoint in float32 and bfloat16, and with the packed one (the embedded model by default),
and compares nDCG@10, Kendall's tau of the rankings, and the logits.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from scipy.stats import kendalltau

from jina_rerank import LocalScorer, OnnxScorer, Reranker
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.evaluation import (
    Collection,
    RerankerSystem,
    Run,
    SystemResult,
    bm25,
    evaluate,
    load_collection,
)

COFFEE = Path(__file__).parents[1] / "examples" / "data" / "coffee"
DEPTH = 50

ScorerOfLogits: TypeAlias = "LocalScorer | OnnxScorer"


def main() -> None:
    """Print one line for each way of storing and computing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("packed", type=Path, nargs="?", default=embedded_model_folder())
    parser.add_argument("--collection", type=Path, default=COFFEE)
    parser.add_argument("--queries", type=int, help="take this many, evenly spread")
    args = parser.parse_args()

    collection = load_collection(str(args.collection))
    if args.queries is not None:
        collection = collection.take(args.queries)
    print(f"{collection.name}: {len(collection.queries)} queries, BM25's best {DEPTH}")
    print(f"{'':30}  nDCG@10     tau  largest logit difference  seconds")
    first_stage, reference, *others = evaluate_scorers(
        collection,
        {
            "checkpoint, float32": LocalScorer(args.checkpoint, dtype="float32", max_length=512),
            "checkpoint, bfloat16": LocalScorer(args.checkpoint, dtype="bfloat16", max_length=512),
            "packed, float32": LocalScorer(args.packed, dtype="float32", max_length=512),
            "packed, bfloat16": LocalScorer(args.packed, dtype="bfloat16", max_length=512),
        },
    )
    print(f"{'BM25':30}  {first_stage.measured.means['nDCG@10']:7.4f}")
    for result in (reference, *others):
        tau, difference = compare(reference.run, result.run)
        assert result.cost is not None
        print(
            f"{result.name:30}  {result.measured.means['nDCG@10']:7.4f}  {tau:6.4f}"
            f"  {difference:24.3f}  {result.cost.seconds:7.0f}"
        )


def evaluate_scorers(
    collection: Collection, scorers: Mapping[str, ScorerOfLogits]
) -> tuple[SystemResult, ...]:
    """BM25's own result, then each scorer's on BM25's candidates, with logits as scores."""
    systems = [RerankerSystem(Reranker(scorer), name=name) for name, scorer in scorers.items()]
    found = bm25(collection, DEPTH)
    return evaluate(collection, found, systems, depth=DEPTH, measures=["nDCG@10"]).results


def compare(reference: Run, logits: Run) -> tuple[float, float]:
    """The mean Kendall tau over queries, and the largest difference of any logit."""
    taus, differences = [], []
    for query, expected in reference.items():
        found = [logits[query][document] for document in expected]
        taus.append(float(kendalltau(list(expected.values()), found).statistic))
        differences += [abs(a - b) for a, b in zip(expected.values(), found, strict=True)]
    return sum(taus) / len(taus), max(differences)


if __name__ == "__main__":
    main()
