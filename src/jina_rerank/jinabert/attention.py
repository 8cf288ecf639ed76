"""Softmax attention with the symmetric ALiBi bias, without memory for the bias.

Three things make it fast:

- The bias of a query at i on a key at j depends on |i - j|. With the rows of the queries in
  reverse order that is a function of the row plus the column, so the whole matrix is a view of one
  vector: see `reversed_bias`.
- In a long document most heads see only what is near. A head of slope s weakens a key at distance
  d by exp(-s * d), and no score can make up for it beyond a distance that follows from the lengths
  of the query and key vectors. What lies beyond is left out where it provably weighs less than the
  arithmetic can tell: see `windows`.
- Blocks of rows with their windows go through one call, as overlapping views of the keys.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .alibi import reversed_bias

BIAS_ELEMENTS = 16 * 1024 * 1024
"""Most elements of the bias that are ever written out at once, 64 MB, on devices whose
attention kernels cannot read it as an overlapping view."""

WINDOWED_FROM = 1536
"""Sequences shorter than this are computed whole: finding the windows would cost more."""

WINDOW_STEP = 64
"""Windows are rounded up to a multiple of this: heads with equal windows share their calls, and
the kernel is quickest where the number of keys is a multiple of 16."""


def attend(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
    """Attention over sequences of one length.

    Args:
        q: Shape (count, heads, length, head size); so are `k` and `v`.
        k: The keys.
        v: The values.
        slopes: Shape (heads,), float32.

    Returns:
        Shape (count, heads, length, head size).
    """
    if q.device.type != "cpu":
        return _attend_written_out(q, k, v, slopes)
    if q.shape[2] < WINDOWED_FROM:
        return _attend_block(q, k, v, slopes, 0)
    return torch.cat([_attend_long(*one, slopes) for one in zip(q, k, v, strict=True)])


def _attend_written_out(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
    """With the bias written out, some rows at a time, as every device but the CPU needs it."""
    length = q.shape[2]
    bias = reversed_bias(slopes, length, length, length - 1)
    q = q.flip(2)
    step = max(1, BIAS_ELEMENTS // (q.shape[1] * length))
    blocks = [
        F.scaled_dot_product_attention(
            q[:, :, row : row + step],
            k,
            v,
            attn_mask=bias[:, :, row : row + step].to(q.dtype, copy=True).contiguous(),
        )
        for row in range(0, length, step)
    ]
    return torch.cat(blocks, dim=2).flip(2)


def windows(q: Tensor, k: Tensor, slopes: Tensor) -> list[int]:
    """How far each head must look.

    The weight of a key is exp(score - slope * distance), and no score exceeds the length of the
    query vector times that of the longest key, over the root of the head size. The query's own
    position weighs exp(its score with itself), at distance 0. With the largest difference of the
    two over all queries, the gap, all keys further than w away on both sides weigh together, as a
    part of the own position's weight, at most the sum of a geometric series:

        2 * exp(gap - slope * (w + 1)) / (1 - exp(-slope))

    and this is held below a 64th of the dtype's epsilon.

    Args:
        q: Shape (heads, length, head size); so is `k`.
        k: The keys.
        slopes: Shape (heads,), float32.

    Returns:
        The largest distance that counts, one for each head, multiples of `WINDOW_STEP`.
    """
    scale = q.shape[-1] ** -0.5
    exact = torch.promote_types(q.dtype, torch.float32)
    longest_key = torch.linalg.vector_norm(k, dim=-1, dtype=exact).amax(-1, keepdim=True)
    highest = torch.linalg.vector_norm(q, dim=-1, dtype=exact) * longest_key * scale
    own = (q.to(exact) * k.to(exact)).sum(-1) * scale
    gap = (highest - own).amax(-1)
    negligible = torch.finfo(q.dtype).eps / 64
    needed = (gap + torch.log(2 / (negligible * -torch.expm1(-slopes)))) / slopes
    all_steps = math.ceil(q.shape[1] / WINDOW_STEP)
    steps = (needed / WINDOW_STEP).ceil().nan_to_num(all_steps).clamp(1, all_steps)
    return [int(n) * WINDOW_STEP for n in steps.tolist()]


def _attend_long(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> Tensor:
    """One long sequence, its heads grouped by how far they look.

    Takes shapes (heads, length, head size), gives (1, heads, length, head size).
    """
    found = windows(q, k, slopes)
    groups = {window: [h for h, w in enumerate(found) if w == window] for window in set(found)}
    order = torch.tensor([head for heads in groups.values() for head in heads])
    parts = [
        _attend_windowed(q[heads], k[heads], v[heads], slopes[heads], window)
        for window, heads in groups.items()
    ]
    return torch.cat(parts, dim=1)[:, order.argsort()]


def _attend_windowed(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, window: int) -> Tensor:
    """The same for heads of one window."""
    length = q.shape[1]
    rows = min(256, max(64, window // 2))
    if rows + 2 * window >= length:
        return _attend_block(q[None], k[None], v[None], slopes, 0)

    def at_an_end(start: int, stop: int) -> list[Tensor]:
        """Blocks of rows whose window is cut off by the beginning or the end of the sequence."""
        blocks = []
        for row in range(start, stop, rows):
            first = max(0, row - window)
            after = min(row + rows, stop)
            keys, values = (t[None, :, first : after + window] for t in (k, v))
            blocks.append(_attend_block(q[None, :, row:after], keys, values, slopes, row - first))
        return blocks

    # Blocks with a full window on both sides are computed in one call.
    begin = math.ceil(window / rows) * rows
    end = begin + max(0, (length - window - begin) // rows) * rows
    parts = at_an_end(0, begin)
    if end > begin:
        queries = q[:, begin:end].reshape(len(slopes), -1, rows, q.shape[2]).transpose(0, 1)
        keys, values = (
            t[:, begin - window : end + window].unfold(1, rows + 2 * window, rows) for t in (k, v)
        )
        keys, values = (t.permute(1, 0, 3, 2) for t in (keys, values))
        inside = _attend_block(queries, keys, values, slopes, window)
        parts.append(inside.transpose(0, 1).flatten(1, 2)[None])
    return torch.cat([*parts, *at_an_end(end, length)], dim=2)


def _attend_block(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, before: int) -> Tensor:
    """Rows of queries on consecutive keys, of which `before` stand before the first row."""
    rows, keys = q.shape[2], k.shape[2]
    bias = reversed_bias(slopes, rows, keys, rows - 1 + before)
    if q.dtype == torch.float64:
        # torch's kernel takes the bias for float64 too, and reads past its numbers.
        bias = bias.double()
    return F.scaled_dot_product_attention(q.flip(2), k, v, attn_mask=bias).flip(2)
