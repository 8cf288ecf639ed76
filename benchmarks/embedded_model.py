"""The embedded model beside turbo's shape, from short pairs to long ones.

The embedded model has its own weights, since what a head sees, and whether it writes anything,
depends on them; turbo's shape has random ones.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch

from jina_rerank import LocalScorer, Reranker
from jina_rerank.encoders.products import can_fuse
from jina_rerank.scorers.device import Dtype

from .measuring import Contender, Result, Target, interleave
from .shapes import save_jinabert
from .work import Texts, uniform_lengths

TOKENS = {60: 120, 140: 60, 300: 30, 500: 20, 700: 12, 1000: 10, 2000: 6, 8000: 1}
"""Tokens of the longest pair, and how many pairs; the shortest has a tenth less."""


def measure(rounds: int, *, quick: bool) -> Result:
    """Both models on the same texts, in each dtype that this processor has kernels for.

    Args:
        rounds: Rounds that count.
        quick: Up to 500 tokens.
    """
    result = Result("embedded_model", "the embedded model beside turbo's shape")
    texts = Texts()
    with tempfile.TemporaryDirectory() as folder:
        turbo = save_jinabert(Path(folder) / "turbo")
        dtypes: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        for dtype in (name for name, of in dtypes.items() if can_fuse(of)):
            both = [Reranker(LocalScorer(model, dtype=dtype)) for model in (None, turbo)]
            for tokens, count in TOKENS.items():
                if quick and tokens > 500:
                    break
                query, documents = texts.pairs(uniform_lengths(count, tokens * 9 // 10, tokens))
                names = [f"{model}, {dtype}, {tokens:,} tokens" for model in ("mini", "turbo")]
                contenders: dict[str, Contender] = {
                    name: partial(model.rank, query, documents)
                    for name, model in zip(names, both, strict=True)
                }
                seconds = interleave(contenders, rounds)
                for name, times in seconds.items():
                    result.figures[f"seconds, {name}"] = statistics.median(times)
                ratios = [own / other for own, other in zip(*seconds.values(), strict=True)]
                result.targets.append(
                    Target(
                        f"of turbo's time, {dtype}, {tokens:,} tokens",
                        1.0,
                        statistics.median(ratios),
                        at_least=False,
                    )
                )
    return result
