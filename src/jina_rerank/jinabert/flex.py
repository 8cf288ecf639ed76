"""The layers on a GPU with FlexAttention: all sequences of a batch in one call, nothing padded.

Experimental: its numbers are tested on a CPU, where FlexAttention runs uncompiled; it has not run
on a GPU. `benchmarks/gpu.py` is there to measure it.

The sequences lie one after another. A block of 128 queries meets only the blocks of keys that
belong to the same sequences, and within them a mask keeps sequences apart; the bias is computed
where the scores are, and takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from .alibi import Bias
from .model import JinaBert, _Layer

BLOCK = 128
"""FlexAttention's own size of blocks."""

Attend = Callable[..., Tensor]


class FlexEncoder:
    """The layers of a model, their attention by FlexAttention.

    Args:
        model: On any device. On CUDA a head must have at least 16 dimensions.
        backend: What torch compiles the attention with, at the first call and once for all
            lengths. None does not compile it: then all scores are written out, of every token
            with every other.
    """

    def __init__(
        self, model: JinaBert, *, backend: str | Callable[..., Any] | None = "inductor"
    ) -> None:
        self._layers = model.bert.encoder.layer
        self._attend: Attend = flex_attention
        if backend is not None:
            # A full graph, or an error: where torch gives up halfway, it writes out all scores.
            self._attend = torch.compile(
                flex_attention, dynamic=True, fullgraph=True, backend=backend
            )

    def __call__(
        self, hidden: Tensor, runs: Sequence[tuple[int, int]], bias: Bias, first: Tensor
    ) -> Tensor:
        """Run all layers; see `Encode`."""
        lengths = torch.tensor([length for length, count in runs for _ in range(count)])
        rows = filling(hidden.shape[0])
        hidden = F.pad(hidden, (0, 0, 0, rows))
        mask = block_mask(lengths, hidden.device)
        length_of = F.pad(lengths.repeat_interleave(lengths), (0, rows)).to(hidden.device)
        whole = bias.sees_whole(length_of[:, None])

        def added(reaches: Tensor) -> Callable[..., Tensor]:
            def with_bias(
                score: Tensor, _batch: Tensor, head: Tensor, query: Tensor, key: Tensor
            ) -> Tensor:
                distance = (query - key).abs()
                near = score - bias.slopes[head] * distance
                seen = (distance <= reaches[head]) | whole[query, head]
                return torch.where(seen, near, -torch.inf)

            return with_bias

        limited, unlimited = added(bias.reaches), added(bias.without_limits().reaches)
        for number, layer in enumerate(self._layers):
            assert isinstance(layer, _Layer)
            score_mod = limited if number < len(self._layers) - 1 else unlimited
            attention = layer.attention
            q, k, v = (
                attention.self[name](hidden).unflatten(-1, (attention.heads, -1)).transpose(0, 1)
                for name in ("query", "key", "value")
            )
            attended = self._attend(q[None], k[None], v[None], score_mod=score_mod, block_mask=mask)
            context = attended[0].transpose(0, 1).flatten(1)
            output = attention.output
            hidden = layer.feed_forward(output["LayerNorm"](hidden + output["dense"](context)))
        return hidden[first]


def filling(tokens: int) -> int:
    """How many rows make a batch one of whole blocks.

    At least two blocks: torch would compile a size of one anew.
    """
    return max(-tokens % BLOCK, 2 * BLOCK - tokens)


def block_mask(lengths: Tensor, device: torch.device) -> BlockMask:
    """Which blocks of keys each block of queries meets.

    Written down from the lengths: FlexAttention's own way asks for every pair of tokens, which is
    4 billion for a batch of 65,536.

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
