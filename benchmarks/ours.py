"""Our own contenders that take texts, and what is wanted of them beside the rivals."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import get_args

from jina_rerank import LocalScorer, Reranker
from jina_rerank.encoders.int8 import can_multiply_int8
from jina_rerank.scorers.device import Dtype

from .measuring import Contender, Result, Target
from .work import MAX_LENGTH

OURS = "jina-rerank"
DTYPES: tuple[Dtype, ...] = tuple(
    dtype
    for dtype in get_args(Dtype)
    if dtype != "auto" and (dtype != "int8" or can_multiply_int8())
)
"""All that the engine computes in on this processor."""


def label(dtype: str) -> str:
    """The label of our contender.

    Args:
        dtype: What it computes in.
    """
    return f"{OURS}, {dtype}, from text"


def from_text(
    saved: Path, query: str, documents: list[str], dtypes: Iterable[Dtype] = DTYPES
) -> dict[str, Contender]:
    """Rerankers of a checkpoint by their labels, loaded.

    Args:
        saved: The checkpoint's folder.
        query: The query.
        documents: The documents.
        dtypes: What to compute in.
    """
    contenders: dict[str, Contender] = {}
    for dtype in dtypes:
        reranker = Reranker(LocalScorer(saved, dtype=dtype, max_length=MAX_LENGTH))
        reranker.warm_up()
        contenders[label(dtype)] = partial(reranker.rank, query, documents)
    return contenders


def targets(result: Result, rivals: Iterable[str], prefix: str = "") -> list[Target]:
    """List the targets of our fastest beside the fastest rival, and of int8 beside our others.

    Args:
        result: With all seconds.
        rivals: Their labels.
        prefix: Stands before each label in the result.
    """
    own: dict[str, float] = {
        dtype: result.median(prefix + label(dtype))
        for dtype in DTYPES
        if prefix + label(dtype) in result.seconds
    }
    best = min(result.median(prefix + rival) for rival in rivals)
    found = [Target(f"{prefix}times as fast as the fastest rival", 1.25, best / min(own.values()))]
    for dtype, wanted in (("bfloat16", 1.4), ("float32", 2.2)):
        if "int8" in own and dtype in own:
            ratio = own[dtype] / own["int8"]
            found.append(Target(f"{prefix}int8, times as fast as {dtype}", wanted, ratio))
            break
    return found
