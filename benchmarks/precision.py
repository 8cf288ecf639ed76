"""int8 and bfloat16 against float32, and fused layers against plain ones."""

from __future__ import annotations

import torch

from jina_rerank import LocalScorer
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.cpu import CpuEngine
from jina_rerank.evaluation import load_collection

from .measuring import Result, Target
from .ours import DTYPES
from .storage import COFFEE, compare, evaluate_scorers
from .work import chunk_lengths

LARGEST_LOSS = {"bfloat16": 0.002, "int8": 0.003}
"""Largest difference to float32's nDCG@10 by dtype."""

LEAST_TAU = {"bfloat16": 0.98, "int8": 0.97}
"""Least Kendall's tau to float32's order by dtype."""


def measure(rounds: int, *, quick: bool) -> Result:
    """The embedded model on BM25's best 50 for real questions.

    Args:
        rounds: Not used.
        quick: Every tenth question.
    """
    collection = load_collection(str(COFFEE))
    if quick:
        collection = collection.take(21)
    _, exact, *others = evaluate_scorers(
        collection, {dtype: LocalScorer(dtype=dtype, max_length=512) for dtype in DTYPES}
    )
    result = Result("precision", f"{COFFEE.name}: {len(collection.queries)} questions, BM25's 50")
    ndcg = exact.measured.means["nDCG@10"]
    result.figures["nDCG@10, float32"] = ndcg
    for dtype, other in zip(DTYPES[1:], others, strict=True):
        tau, largest = compare(exact.run, other.run)
        found = other.measured.means["nDCG@10"]
        result.figures |= {
            f"nDCG@10, {dtype}": found,
            f"Kendall's tau, {dtype} to float32, mean over questions": tau,
            f"largest difference of a logit, {dtype} to float32": largest,
        }
        result.targets.append(
            Target(
                f"difference of nDCG@10, {dtype}",
                LARGEST_LOSS[dtype],
                abs(ndcg - found),
                at_least=False,
            )
        )
        result.targets.append(Target(f"Kendall's tau, {dtype}", LEAST_TAU[dtype], tau))
    fused = fused_difference()
    result.figures["largest difference of a logit, engine to plain layers, float32"] = fused
    result.targets.append(Target("float32 engine to plain layers", 1e-5, fused, at_least=False))
    return result


def fused_difference() -> float:
    """The engine's logits beside those of the model's own layers, float32."""
    lengths = sorted([*chunk_lengths(100), 1200, 3000], reverse=True)
    ids = torch.randint(1000, 20_000, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = JinaBert.from_pretrained(embedded_model_folder()).forward_packed(ids, lengths)
        engine = CpuEngine(JinaBert.from_pretrained(embedded_model_folder()))
        return float((engine(ids, lengths) - plain).abs().max())
