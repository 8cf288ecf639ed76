"""The slopes of attention with linear biases (ALiBi)."""

from __future__ import annotations

import math
from typing import Literal

Slopes = Literal["reranker", "paper", "faint"]
"""Variants of the slopes, see `alibi_slopes`."""


def alibi_slopes(heads: int, variant: Slopes = "reranker") -> list[float]:
    """Compute one slope for each head.

    For a power of two, `2^(-8(i+1)/heads)` (Press et al., Train Short, Test Long,
    arXiv:2108.12409, and its reference code). Otherwise the slopes of the next lower power of
    two p, then every second slope of 2p. The rerankers' own modelling code halves that second
    group; the paper, and the other JinaBERTs, do not.

    Args:
        heads: The number of attention heads.
        variant: `"reranker"` with the second group halved, `"paper"` as published; `"faint"`, for
            encoders that were not trained with ALiBi, a sixteenth of the reranker's.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    factor = 1.0 if variant == "paper" else 0.5
    slopes += [factor * slope for slope in between[: heads - power]]
    return [slope / 16 for slope in slopes] if variant == "faint" else slopes
