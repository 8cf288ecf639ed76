"""bfloat16 against float32, and fused layers against plain ones: the same rankings."""

from __future__ import annotations

import torch

from jina_rerank import LocalScorer
from jina_rerank.jinabert import JinaBert
from jina_rerank.jinabert.cpu import CpuEngine
from jina_rerank.scorers.local import embedded_model_folder

from .first_stage import COFFEE, bm25_candidates
from .measuring import Result, Target
from .storage import compare, rerank
from .work import chunk_lengths


def measure(rounds: int, *, quick: bool) -> Result:
    """The embedded model on BM25's best 50 for real questions.

    Args:
        rounds: Not used.
        quick: Every tenth question.
    """
    candidates = bm25_candidates(COFFEE, depth=50, every=10 if quick else 1)
    exact, rounded = (
        rerank(candidates, LocalScorer(dtype=dtype, max_length=512))
        for dtype in ("float32", "bfloat16")
    )
    tau, largest = compare(exact, rounded)
    result = Result("precision", f"{COFFEE.name}: {len(candidates.queries)} questions, BM25's 50")
    ndcg, ndcg_rounded = candidates.ndcg(exact), candidates.ndcg(rounded)
    fused = fused_difference()
    result.figures = {
        "nDCG@10, float32": ndcg,
        "nDCG@10, bfloat16": ndcg_rounded,
        "Kendall's tau, bfloat16 to float32, mean over questions": tau,
        "largest difference of a logit, bfloat16 to float32": largest,
        "largest difference of a logit, engine to plain layers, float32": fused,
    }
    result.targets = [
        Target("difference of nDCG@10", 0.002, abs(ndcg - ndcg_rounded), at_least=False),
        Target("float32 engine to plain layers", 1e-5, fused, at_least=False),
    ]
    return result


def fused_difference() -> float:
    """The engine's logits beside those of the model's own layers, float32."""
    lengths = sorted([*chunk_lengths(100), 1200, 3000], reverse=True)
    ids = torch.randint(1000, 20_000, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = JinaBert.from_pretrained(embedded_model_folder()).forward_packed(ids, lengths)
        engine = CpuEngine(JinaBert.from_pretrained(embedded_model_folder()))
        return float((engine(ids, lengths) - plain).abs().max())
