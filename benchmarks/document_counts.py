"""Pairs a second and memory from 10 to 10,000 documents, turbo's shape."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from jina_rerank import LocalScorer, Reranker

from .long_documents import high_water_mark
from .measuring import Result, Target
from .shapes import save_jinabert
from .work import Texts, chunk_lengths


def measure(rounds: int, *, quick: bool) -> Result:
    """Growing calls; the same documents over and over, so that each costs the same.

    Args:
        rounds: Rounds of all but the largest.
        quick: Up to 1,000 documents.
    """
    lengths = chunk_lengths(100)
    sizes = [10, 100, 1000] if quick else [10, 100, 1000, 10_000]
    texts = Texts()
    query, documents = texts.pairs(lengths * (max(sizes) // 100))
    result = Result("document_counts", f"{sizes[0]} to {sizes[-1]:,} documents in one call")
    rates: list[float] = []
    peaks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        reranker = Reranker(LocalScorer(save_jinabert(Path(folder) / "turbo")))
        reranker.rank(query, documents[:100])
        for size in sizes:
            # Ten documents are a small sample of lengths: all hundred in ten calls.
            calls = [documents[i : i + size] for i in range(0, max(100, size), size)]
            seconds = []
            for _ in range(1 if size == max(sizes) else rounds):
                started = time.perf_counter()
                for call in calls:
                    reranker.rank(query, call)
                seconds.append((time.perf_counter() - started) / len(calls))
            result.seconds[f"{size:,} documents"] = seconds
            rates.append(size / statistics.median(seconds))
            peaks.append(high_water_mark())
            result.figures[f"pairs a second, {size:,} documents"] = rates[-1]
            result.figures[f"peak MB of the process, {size:,} documents"] = peaks[-1]
    result.targets = [
        Target("slowest rate over the fastest", 0.9, min(rates) / max(rates)),
        Target("MB more for the most than for 1,000", 50, peaks[-1] - peaks[2], at_least=False),
    ]
    return result
