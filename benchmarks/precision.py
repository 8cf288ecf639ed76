"""Rankings in bfloat16 and int8 beside those in float32, and fused layers beside plain ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from jina_rerank import LocalScorer, OnnxScorer
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.cpu import CpuEngine
from jina_rerank.evaluation import load_collection
from jina_rerank.onnx.export import export_onnx

from .measuring import Result, Target
from .ours import DTYPES
from .storage import COFFEE, DEPTH, ScorerOfLogits, compare, evaluate_scorers
from .work import chunk_lengths

LARGEST_LOSS = {"bfloat16": 0.002, "int8": 0.003, "ONNX int8": 0.005}
"""Largest loss of nDCG@10 against float32."""

LEAST_TAU = {"bfloat16": 0.98, "int8": 0.97, "ONNX int8": 0.97}
"""Least Kendall's tau to float32's order."""

MAX_LENGTH = 512


def measure(rounds: int, *, quick: bool, folder: Path | None = None) -> Result:
    """The embedded model on BM25's best for real questions.

    Args:
        rounds: Not used.
        quick: Every tenth question.
        folder: A collection, which gets a result of its own; None for coffee.
    """
    workload = "precision" if folder is None else f"precision/{folder.name}"
    folder = folder or COFFEE
    title = f"{folder.name}: BM25's best {DEPTH}, pairs of {MAX_LENGTH} tokens"
    result = Result(workload, title)
    with tempfile.TemporaryDirectory() as temporary:
        export_onnx(None, Path(temporary) / "int8", int8=True)
        scorers: dict[str, ScorerOfLogits] = {
            dtype: LocalScorer(dtype=dtype, max_length=MAX_LENGTH) for dtype in DTYPES
        }
        scorers["ONNX int8"] = OnnxScorer(Path(temporary) / "int8", max_length=MAX_LENGTH)
        _add(result, folder, scorers, quick=quick)
    if folder is COFFEE:
        fused = fused_difference()
        result.figures["engine to plain layers, float32: largest difference of a logit"] = fused
        result.targets.append(Target("float32 engine to plain layers", 1e-5, fused, at_least=False))
    return result


def _add(result: Result, folder: Path, scorers: dict[str, ScorerOfLogits], *, quick: bool) -> None:
    """Measure one collection."""
    collection = load_collection(str(folder))
    if quick:
        collection = collection.take(len(collection.queries) // 10)
    _, exact, *others = evaluate_scorers(collection, scorers)
    ndcg = exact.measured.means["nDCG@10"]
    result.figures[f"{folder.name}, float32: nDCG@10"] = ndcg
    for other in others:
        name = other.name
        tau, largest = compare(exact.run, other.run)
        found = other.measured.means["nDCG@10"]
        result.figures |= {
            f"{folder.name}, {name}: nDCG@10": found,
            f"{folder.name}, {name}: Kendall's tau": tau,
            f"{folder.name}, {name}: largest difference of a logit": largest,
        }
        loss = Target(
            f"{folder.name}, {name}: loss of nDCG@10",
            LARGEST_LOSS[name],
            ndcg - found,
            at_least=False,
        )
        order = Target(f"{folder.name}, {name}: Kendall's tau", LEAST_TAU[name], tau)
        result.targets += [loss, order]


def fused_difference() -> float:
    """The engine's logits beside those of the model's own layers, float32."""
    lengths = sorted([*chunk_lengths(100), 1200, 3000], reverse=True)
    ids = torch.randint(1000, 20_000, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = JinaBert.from_pretrained(embedded_model_folder()).forward_packed(ids, lengths)
        engine = CpuEngine(JinaBert.from_pretrained(embedded_model_folder()))
        return float((engine(ids, lengths) - plain).abs().max())
