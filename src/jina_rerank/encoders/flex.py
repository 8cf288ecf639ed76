"""The layers on a GPU with FlexAttention: all sequences of a batch in one call, nothing padded.

Experimental: its numbers are tested on a CPU, where FlexAttention runs uncompiled; it has not run
on a GPU. `benchmarks/gpu.py` is there to measure it.

The sequences lie one after another. A block of 128 queries attends only to the blocks of keys that
belong to the same sequences, and within them a mask keeps sequences apart; the bias is computed
together with the scores, and takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .attention import PackedAttention, turn
from .bias import Bias
from .block import Attend
from .model import EncoderModel
from .sequences import Sequences

BLOCK = 128
"""FlexAttention's own size of blocks."""


class FlexEncoder:
    """The layers of a model, their attention by FlexAttention.

    Args:
        model: The model, on any device. On CUDA a head must have at least 16 dimensions.
        backend: Backend of torch's compiler for the attention, which is compiled at the first call
            and once for all lengths. None does not compile it: then all scores are written out, of
            every token with every other.
    """

    def __init__(
        self, model: EncoderModel, *, backend: str | Callable[..., Any] | None = "inductor"
    ) -> None:
        self._layers = model.bert.encoder.layers
        self._pools_means = model.architecture.head.pooling == "mean"
        self._final_norm = model.final_norm
        device = next(model.parameters()).device
        self._attention = PackedAttention(model.architecture, device)
        self._flex: Callable[..., Tensor] = flex_attention
        if backend is not None:
            # A full graph, or an error: where torch gives up halfway, it writes out all scores.
            self._flex = torch.compile(
                flex_attention, dynamic=True, fullgraph=True, backend=backend
            )

    def __call__(self, hidden: Tensor, sequences: Sequences) -> Tensor:
        """Run all layers; see `Encode`."""
        rows = filling(hidden.shape[0])
        hidden = F.pad(hidden, (0, 0, 0, rows))
        batch = _Batch(sequences, rows)
        for number, layer in enumerate(self._layers[:-1]):
            hidden = layer.run(hidden, self._of_layer(number, batch))
        last, number = self._layers[-1], len(self._layers) - 1
        attend = self._of_layer(number, batch)
        if self._pools_means:
            whole = last.run(hidden, attend)
            return sequences.means(self._final_norm(whole[: sequences.tokens]))
        # Attention is computed for all tokens, the rest for first tokens and in float32.
        first = sequences.first
        context = attend(*last.project(last.before_attention(hidden)))[first].float()
        return self._final_norm(last.after_attention(context, hidden[first].float()))

    def _of_layer(self, number: int, batch: _Batch) -> Attend[Tensor]:
        heads = self._layers[number].attention.heads
        bias = self._attention.bias(number)
        score_mod = None if bias is None else batch.score_mod(bias)
        turned = self._attention.rotation(number, batch.sequences)

        def attention(*projected: Tensor) -> Tensor:
            query, key, value = projected
            if turned is not None:
                behind = (0, 0, 0, len(query) - len(turned[0]))
                query, key = (F.pad(turn(rows, heads, turned), behind) for rows in (query, key))
            q, k, v = (
                torch.unflatten(rows, -1, (heads, -1)).transpose(0, 1)
                for rows in (query, key, value)
            )
            found = self._flex(
                q[None], k[None], v[None], score_mod=score_mod, block_mask=batch.mask
            )
            return found[0].transpose(0, 1).flatten(1)

        return attention


class _Batch:
    """Sequences and the rows behind them, in the form that FlexAttention needs."""

    def __init__(self, sequences: Sequences, rows: int) -> None:
        device = sequences.first.device
        lengths = torch.tensor(sequences.lengths)
        self.sequences = sequences
        self.mask = block_mask(lengths, device)
        self._length_of = F.pad(lengths.repeat_interleave(lengths), (0, rows)).to(device)

    def score_mod(self, bias: Bias) -> Callable[..., Tensor]:
        """Make the function that computes the bias of a score and adds it."""
        whole = bias.sees_whole(self._length_of[:, None])

        def with_bias(
            score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor
        ) -> Tensor:
            distance = (query - key).abs()
            near = score - bias.slopes[head] * distance
            seen = (distance <= bias.reaches[head]) | whole[query, head]
            return torch.where(seen, near, -torch.inf)

        return with_bias


def filling(tokens: int) -> int:
    """Compute the number of rows that fill a batch up to whole blocks.

    There are at least two blocks: torch would compile again for a size of one.
    """
    return max(-tokens % BLOCK, 2 * BLOCK - tokens)


def block_mask(lengths: Tensor, device: torch.device) -> BlockMask:
    """Build the mask of blocks of keys that each block of queries attends to.

    It is computed from the lengths: FlexAttention's own way evaluates every pair of tokens, which
    is 4 billion for a batch of 65,536.

    Args:
        lengths: Tokens of the sequences, shape (sequences,), on the CPU.
        device: Where the mask is used.

    Returns:
        A mask over the tokens, and after them over a sequence that consists of the filling.
    """
    rows = filling(int(lengths.sum()))
    if rows:
        lengths = torch.cat([lengths, torch.tensor([rows])])
    ends = lengths.cumsum(0)
    sequence_of = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    blocks = len(sequence_of) // BLOCK
    starts = ends - lengths
    first = starts[sequence_of[::BLOCK]] // BLOCK
    last = (ends[sequence_of[BLOCK - 1 :: BLOCK]] - 1) // BLOCK
    counts = (last - first + 1).to(torch.int32)
    # Only the first `counts` entries of a row are read.
    indices = (first[:, None] + torch.arange(blocks)).clamp(max=blocks - 1).to(torch.int32)
    sequence_of = sequence_of.to(device)

    def same_sequence(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return sequence_of[query] == sequence_of[key]

    return BlockMask.from_kv_blocks(
        counts[None, None].to(device),
        indices[None, None].to(device),
        BLOCK_SIZE=BLOCK,
        mask_mod=same_sequence,
    )
