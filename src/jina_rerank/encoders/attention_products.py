"""Attention by matrix products in bfloat16, for sequences that are not long.

torch's attention kernel on a CPU reaches a sixth of what its matrix products do at a head size of
32. Here the attention weights of some heads are written out, 1 MB at a time, which stays in a
core's cache. They are computed without the largest score of a row, since bfloat16 has float32's
range; where that overflows or underflows all the same, torch's kernel does the work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import attend
from .bias import Bias

LONGEST = 1024
"""Longer sequences are left to torch's kernel, for which windows of the keys are cut out."""

WINDOWED_FROM = 4
"""So many times as long as a window's reach, a sequence is left to torch's kernel too."""

LEAST_TOTAL = 1e-30
"""Weights of a row that add up to less are near the smallest numbers, which have fewer digits."""

WEIGHTS = 2**19
"""Attention weights that are written out at a time, 1 MB."""


def attend_by_products(q: Tensor, k: Tensor, v: Tensor, bias: Bias | None) -> Tensor:
    """Attention over sequences of one length; see `attend`.

    Args:
        q: Shape (count, heads, length, head size), bfloat16; so are `k` and `v`.
        k: The keys.
        v: The values.
        bias: Bias of the heads' scores; None for none.

    Returns:
        Shape (count, heads, length, head size), bfloat16.
    """
    count, heads, length, size = q.shape
    if length > LONGEST:
        return attend(q, k, v, bias)
    queries, decay = q * size**-0.5, None
    if bias is not None and not bias.adds_nothing(length):
        bias = bias.of_length(length)
        if float(bias.reaches.amax()) * WINDOWED_FROM < length:
            return attend(q, k, v, bias)
        # As in `attend`: for queries in reverse order the matrix is a view of one vector.
        queries, decay = queries.flip(2), bias.decay(length, q.dtype)
    # A column of ones sums the weights up.
    values = torch.cat([v, v.new_ones(count, heads, length, 1)], dim=-1)
    sequences_at_once = max(1, WEIGHTS // (heads * length**2))
    heads_at_once = min(heads, max(1, WEIGHTS // length**2))
    sums = torch.empty_like(values)
    for sequence in range(0, count, sequences_at_once):
        for head in range(0, heads, heads_at_once):
            some_heads = slice(head, head + heads_at_once)
            some = slice(sequence, sequence + sequences_at_once), some_heads
            weights = torch.matmul(queries[some], k[some].mT).exp_()
            if decay is not None:
                weights.mul_(decay[:, some_heads])
            sums[some] = torch.matmul(weights, values[some])
    totals = sums[..., size:]
    if not bool(sums.isfinite().all()) or bool((totals < LEAST_TOTAL).any()):
        return attend(q, k, v, bias)
    attended = sums[..., :size] / totals
    return attended if decay is None else attended.flip(2)
