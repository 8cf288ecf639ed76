"""bfloat16 against float32, and fused layers against plain ones: the same rankings."""

from __future__ import annotations

import torch

from jina_rerank import LocalScorer
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.cpu import CpuEngine
from jina_rerank.evaluation import load_collection
from jina_rerank.scorers.device import Dtype

from .measuring import Result, Target
from .storage import COFFEE, compare, evaluate_scorers
from .work import chunk_lengths


def measure(rounds: int, *, quick: bool) -> Result:
    """The embedded model on BM25's best 50 for real questions.

    Args:
        rounds: Not used.
        quick: Every tenth question.
    """
    collection = load_collection(str(COFFEE))
    if quick:
        collection = collection.take(21)
    dtypes: tuple[Dtype, ...] = ("float32", "bfloat16")
    _, exact, rounded = evaluate_scorers(
        collection, {dtype: LocalScorer(dtype=dtype, max_length=512) for dtype in dtypes}
    )
    tau, largest = compare(exact.run, rounded.run)
    result = Result("precision", f"{COFFEE.name}: {len(collection.queries)} questions, BM25's 50")
    ndcg, ndcg_rounded = (one.measured.means["nDCG@10"] for one in (exact, rounded))
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
