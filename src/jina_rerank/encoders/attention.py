"""Softmax attention with a bias that depends on the distance, without memory for the bias.

Three things make it fast:

- The bias of a query at i on a key at j depends on |i - j|. With the rows of the queries in
  reverse order that is a function of the row plus the column, so the whole matrix is a view of one
  vector: see `Bias.reversed`.
- In a long document most heads attend only to near tokens. Some models limit the distance; and
  a head of slope s weakens a key at distance d by exp(-s * d), and no score can make up for it
  beyond a distance that follows from the lengths of the query and key vectors. Keys beyond it are
  left out where their weight is provably below the precision of the arithmetic: see `windows`.
- Blocks of rows with their windows go through one call, as overlapping views of the keys.
"""

from __future__ import annotations

import math
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from .architecture import Architecture, Rotary
from .bias import Bias
from .block import Attend
from .rotary import angles, rotate, rotate_neighbours
from .sequences import Sequences

BIAS_ELEMENTS = 16 * 1024 * 1024
"""Most elements of the bias that are ever written out at once, 64 MB, on devices whose
attention kernels cannot read it as an overlapping view."""

WINDOWED_FROM = 1536
"""Shortest sequence, in tokens, for which windows are computed; for others that would cost more."""

WINDOW_STEP = 64
"""Windows are rounded up to a multiple of this: neighbouring heads with equal windows share their
calls, and the kernel is quickest where the number of keys is a multiple of 16."""


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Bias | None) -> Tensor:
    """Compute attention over sequences of one length.

    Args:
        q: The queries, shape (count, heads, length, head size); `k` and `v` have the same shape.
        k: The keys.
        v: The values.
        bias: Bias of the heads' scores; None for none.

    Returns:
        Shape (count, heads, length, head size).
    """
    length = q.shape[2]
    if bias is None or bias.adds_nothing(length):
        return F.scaled_dot_product_attention(q, k, v)
    bias = bias.of_length(length)
    if q.device.type != "cpu":
        return _attend_written_out(q, k, v, bias)
    if length < WINDOWED_FROM and bias.reaches.amin() >= length:
        return _attend_block(q, k, v, bias, 0)
    if not bias.has_slopes:
        return _attend_windowed(q, k, v, bias, math.ceil(float(bias.reaches.amax())))
    return torch.cat([_attend_long(*one, bias) for one in zip(q, k, v, strict=True)])


def _attend_written_out(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Tensor:
    """Compute attention with the bias written out for some rows at a time; not for the CPU."""
    length = q.shape[2]
    whole = bias.reversed(length, length, length - 1)
    q = q.flip(2)
    step = max(1, BIAS_ELEMENTS // (q.shape[1] * length))
    blocks = [
        F.scaled_dot_product_attention(
            q[:, :, row : row + step],
            k,
            v,
            attn_mask=whole[:, :, row : row + step].to(q.dtype, copy=True).contiguous(),
        )
        for row in range(0, length, step)
    ]
    return torch.cat(blocks, dim=2).flip(2)


def windows(q: Tensor, k: Tensor, bias: Bias) -> list[int]:
    """Compute the distance that each head must attend to: its reach, or less.

    The weight of a key is exp(score - slope * distance), and no score exceeds the length of the
    query vector times that of the longest key, over the root of the head size. The query's own
    position weighs exp(its score with itself), at distance 0. The gap is the largest difference of
    these two scores over all queries. Relative to the weight of the query's own position, all keys
    further than w away on both sides together weigh at most the sum of a geometric series:

        2 * exp(gap - slope * (w + 1)) / (1 - exp(-slope))

    The distance w is chosen so that this is below a 64th of the dtype's epsilon.

    Args:
        q: The queries, shape (heads, length, head size); `k` has the same shape.
        k: The keys.
        bias: The heads' bias.

    Returns:
        The largest distance that counts, one for each head, multiples of `WINDOW_STEP`.
    """
    all_steps = math.ceil(q.shape[1] / WINDOW_STEP)
    steps = (bias.reaches / WINDOW_STEP).ceil().clamp(1, all_steps)
    if q.shape[1] >= WINDOWED_FROM:
        needed = (_needed(q, k, bias.slopes) / WINDOW_STEP).ceil().nan_to_num(all_steps)
        steps = needed.clamp_min(1).minimum(steps)
    return [int(n) * WINDOW_STEP for n in steps.tolist()]


def _needed(q: Tensor, k: Tensor, slopes: Tensor) -> Tensor:
    """Compute the distances beyond which keys are negligible, shape (heads,): see `windows`."""
    scale = q.shape[-1] ** -0.5
    exact = torch.promote_types(q.dtype, torch.float32)
    longest_key = torch.linalg.vector_norm(k, dim=-1, dtype=exact).amax(-1, keepdim=True)
    highest = torch.linalg.vector_norm(q, dim=-1, dtype=exact) * longest_key * scale
    own = (q.to(exact) * k.to(exact)).sum(-1) * scale
    gap = (highest - own).amax(-1)
    negligible = torch.finfo(q.dtype).eps / 64
    distances: Tensor = (gap + torch.log(2 / (negligible * -torch.expm1(-slopes)))) / slopes
    return distances


def _attend_long(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Tensor:
    """Compute attention over one long sequence; neighbouring heads of equal window share a call.

    The inputs have shape (heads, length, head size), the result (1, heads, length, head size).
    """
    parts, first = [], 0
    for window, run in groupby(windows(q, k, bias)):
        heads = slice(first, first := first + len(list(run)))
        queries, keys, values = (t[None, heads] for t in (q, k, v))
        parts.append(_attend_windowed(queries, keys, values, bias.of_heads(heads), window))
    return torch.cat(parts, dim=1)


def _attend_windowed(q: Tensor, k: Tensor, v: Tensor, bias: Bias, window: int) -> Tensor:
    """Compute attention over sequences of one length, limited to the window in every head.

    The inputs and the result have shape (count, heads, length, head size).
    """
    length = q.shape[2]
    rows = min(256, max(64, window // 2))
    if rows + window >= length:
        return _attend_block(q, k, v, bias, 0)

    def at_an_end(start: int, stop: int) -> list[Tensor]:
        """Compute the rows whose window is cut off by the beginning or the end of the sequence."""
        blocks = []
        for row in range(start, stop, rows):
            first = max(0, row - window)
            after = min(row + rows, stop)
            keys, values = (t[:, :, first : after + window] for t in (k, v))
            blocks.append(_attend_block(q[:, :, row:after], keys, values, bias, row - first))
        return blocks

    # Blocks with a full window on both sides are computed in one call.
    begin = min(math.ceil(window / rows) * rows, length)
    end = begin + max(0, (length - window - begin) // rows) * rows
    parts = at_an_end(0, begin)
    if end > begin:
        queries = q[:, :, begin:end].unfold(2, rows, rows)
        keys, values = (
            t[:, :, begin - window : end + window].unfold(2, rows + 2 * window, rows)
            for t in (k, v)
        )
        # (count, heads, blocks, size, rows) to (count * blocks, heads, rows, size)
        queries, keys, values = (
            t.permute(0, 2, 1, 4, 3).flatten(0, 1) for t in (queries, keys, values)
        )
        inside = _attend_block(queries, keys, values, bias, window)
        parts.append(torch.unflatten(inside, 0, (len(q), -1)).transpose(1, 2).flatten(2, 3))
    return torch.cat([*parts, *at_an_end(end, length)], dim=2)


def _attend_block(q: Tensor, k: Tensor, v: Tensor, bias: Bias, before: int) -> Tensor:
    """Compute attention of queries to consecutive keys, `before` of them before the first query."""
    rows, keys = q.shape[2], k.shape[2]
    added = bias.reversed(rows, keys, rows - 1 + before)
    if q.dtype == torch.float64:
        # torch's kernel would read the bias as float64 too, past its end.
        added = added.double()
    return F.scaled_dot_product_attention(q.flip(2), k, v, attn_mask=added).flip(2)


def turn(
    rows: Tensor, heads: int, angles: tuple[Tensor, Tensor], *, neighbours: bool = False
) -> Tensor:
    """Rotate the queries or keys of all tokens by their places.

    Args:
        rows: Shape (rows, heads * size); rows behind the last token are left out.
        heads: Number of heads.
        angles: Cosines and sines, see `PackedAttention.rotation`.
        neighbours: Whether each head's dimensions are in the order of `rotary.neighbours`.

    Returns:
        Shape (tokens, heads * size).
    """
    tokens = len(angles[0])
    by_head = rows[:tokens].view(tokens, heads, -1)
    return (rotate_neighbours if neighbours else rotate)(by_head, *angles).flatten(1)


class PackedAttention:
    """Attention of a model's layers over sequences that lie one after another.

    Args:
        architecture: The model's architecture.
        device: The device it runs on.
        neighbours: Whether the dimensions of queries and keys that `of_layer` takes are in the
            order of `rotary.neighbours`, where they are rotated.
    """

    def __init__(
        self, architecture: Architecture, device: torch.device, *, neighbours: bool = False
    ) -> None:
        layers = range(architecture.num_hidden_layers)
        self._architecture = architecture
        self._device = device
        self._neighbours = neighbours
        self._biases = [Bias.of(architecture, layer, device) for layer in layers]

    def bias(self, layer: int) -> Bias | None:
        """Look up the bias of a layer's scores; None where nothing is added."""
        return self._biases[layer]

    def rotation(self, layer: int, sequences: Sequences) -> tuple[Tensor, Tensor] | None:
        """Look up the angles by which a layer rotates queries and keys; None without rotation.

        Args:
            layer: Number of the layer, from 0.
            sequences: The sequences of the tokens. The angles are kept in it for other layers.

        Returns:
            Cosines and sines, each of shape (tokens, 1, head size / 2), float32.
        """
        positions = self._architecture.positions
        if not isinstance(positions, Rotary):
            return None
        theta = positions.thetas[layer]
        if theta not in sequences.angles:
            size, longest = self._architecture.head_size, max(sequences.lengths)
            cosines, sines = angles(size, theta, longest, self._device)
            places = sequences.places
            sequences.angles[theta] = cosines[places][:, None], sines[places][:, None]
        return sequences.angles[theta]

    def of_layer(
        self, layer: int, sequences: Sequences, heads: list[int] | None = None
    ) -> Attend[Tensor]:
        """Build the attention of a layer among the tokens of each sequence.

        Args:
            layer: Number of the layer, from 0.
            sequences: The sequences in the rows. Rows behind the last one get zeros.
            heads: The heads in the columns, in this order; None for all in the model's order.
        """
        count = self._architecture.num_attention_heads if heads is None else len(heads)
        bias = self._biases[layer]
        if bias is not None and heads is not None:
            bias = bias.of_heads(heads)
        turned = self.rotation(layer, sequences)

        def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            context = query.new_empty(query.shape)
            context[sequences.tokens :] = 0
            if turned is not None:
                query, key = (
                    turn(rows, count, turned, neighbours=self._neighbours) for rows in (query, key)
                )
            for rows, length, number in sequences.spans():
                shape = (number, length, count, -1)
                q, k, v = (t[rows].view(shape).transpose(1, 2) for t in (query, key, value))
                own = context[rows].view(shape)
                own.copy_(attend(q, k, v, bias).transpose(1, 2))
            return context

        return attention

    def of_first(self, layer: int, sequences: Sequences) -> Attend[Tensor]:
        """Build the attention of each sequence's first token to all of its tokens, in float32.

        The attention takes queries of shape (sequences, heads * size).

        Args:
            layer: Number of the layer, from 0.
            sequences: The sequences in the rows.
        """
        heads, bias = self._architecture.num_attention_heads, self._biases[layer]
        turned = self.rotation(layer, sequences)

        def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            parts, done = [], 0
            if turned is not None:
                key = turn(key, heads, turned)
            for rows, length, number in sequences.spans():
                shape = (number, length, heads, -1)
                # Place 0 is not rotated.
                q = query[done : done + number].view(number, heads, 1, -1)
                k, v = (t[rows].view(shape).transpose(1, 2).to(q.dtype) for t in (key, value))
                added = None if bias is None else bias.of_first(length).to(q.dtype)
                attended = F.scaled_dot_product_attention(q, k, v, attn_mask=added)
                parts.append(attended.flatten(1))
                done += number
            return torch.cat(parts)

        return attention
