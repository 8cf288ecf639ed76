"""The forward pass that gradients flow through.

Tokens of all sequences lie in one matrix, as in inference. For attention they are gathered into
small padded groups of about equal length: inference's kernel takes, backwards, twice as long as
the plain products written out here (measured on a CPU at turbo's shape). Rows and lengths are
filled up to multiples, because oneDNN prepares kernels for each new shape, for seconds where every
step brings new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ..encoders import JinaBert
from ..encoders.bias import Bias
from ..encoders.layer import Layer
from ..encoders.sequences import Sequences
from ..encoders.tokenizer import TokenPair

ROWS_MULTIPLE = 512
LENGTH_MULTIPLE = 32
FIRST_MULTIPLE = 64
GROUP_TOKENS = 2048
"""About how many tokens attend at a time."""

HIDDEN = -1e4
"""The amount added to the score of a key that is padding or out of reach. Finite, so that bf16
arithmetic stays finite too."""


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences of about equal length.

    Attributes:
        rows: The rows of their tokens, shape (count, length); any where there is padding.
        mask: False where there is padding, same shape.
    """

    rows: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Sequences one after another.

    Attributes:
        input_ids: Shape (rows,), int64; zero behind the last sequence.
        token_type_ids: Same shape.
        lengths: Tokens of each sequence.
        first: The row of each sequence's first token, shape (sequences,).
        groups: How the sequences are gathered for attention.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    lengths: Sequence[int]
    first: Tensor
    groups: Sequence[Group]
    _rows: Tensor
    _place: Tensor

    @classmethod
    def of(cls, pairs: Sequence[TokenPair], device: torch.device | str = "cpu") -> Self:
        """Put sequences one after another.

        Args:
            pairs: At least one.
            device: Where the tensors go.
        """
        lengths = [len(pair) for pair in pairs]
        tokens = sum(lengths)
        rows = tokens + -tokens % ROWS_MULTIPLE
        ids, types = torch.zeros(rows, dtype=torch.int64), torch.zeros(rows, dtype=torch.int64)
        ids[:tokens] = torch.cat([torch.frombuffer(p.input_ids, dtype=torch.int32) for p in pairs])
        types[:tokens] = torch.cat(
            [torch.frombuffer(p.token_type_ids, dtype=torch.int32) for p in pairs]
        )
        first = [0, *accumulate(lengths[:-1])]
        groups, place, done = [], torch.zeros(rows, dtype=torch.int64), 0
        for positions, length in _grouped(lengths):
            within = torch.arange(length)
            mask = within < torch.tensor([[lengths[i]] for i in positions])
            index = torch.tensor([[first[i]] for i in positions]) + within
            index = torch.where(mask, index, 0)
            groups.append(Group(index.to(device), mask.to(device)))
            flat = torch.arange(done, done + index.numel()).view_as(index)
            place[index[mask]] = flat[mask]
            done += index.numel()
        return cls(
            ids.to(device), types.to(device), lengths,
            torch.tensor(first, device=device), groups,
            torch.cat([group.rows.flatten() for group in groups]), place.to(device),
        )  # fmt: skip

    @property
    def _sizes(self) -> list[int]:
        return [group.rows.numel() for group in self.groups]

    @property
    def tokens(self) -> int:
        """The number of rows that hold a token."""
        return sum(self.lengths)


def _grouped(lengths: Sequence[int]) -> list[tuple[list[int], int]]:
    """Positions of sequences of similar length, and the length that they are filled up to."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    groups = []
    while order:
        length = lengths[order[0]] + -lengths[order[0]] % LENGTH_MULTIPLE
        count = max(1, GROUP_TOKENS // length)
        groups.append((order[:count], length))
        order = order[count:]
    return groups


def hidden_states(model: JinaBert, batch: TrainingBatch, *, whole: bool = True) -> list[Tensor]:
    """Outputs of each layer.

    Args:
        model: In any dtype; the bias is rounded to it, in bfloat16 to 1/512 of itself.
        batch: On the model's device.
        whole: Whether the last layer is computed for all tokens, or only for each sequence's
            first, which is all that a logit needs.

    Returns:
        The embeddings and the output of each layer, each of shape (rows, hidden), meaningless
        behind the last sequence; the last one (sequences, hidden) where it is not whole.
    """
    hidden = embedded(model, batch)
    bias = bias_of(model, 0)
    biases = attention_biases(bias, batch, hidden.dtype)
    states = [hidden]
    *layers, last = model.bert.encoder.layers
    for layer in layers:
        hidden = layer.after_attention(attended(layer, batch, biases, hidden), hidden)
        states.append(hidden)
    if model.config.attention_window is not None:
        biases = attention_biases(bias.without_limits(), batch, hidden.dtype)
    if whole:
        states.append(last.after_attention(attended(last, batch, biases, hidden), hidden))
    else:
        states.append(_first_tokens(last, batch, biases, hidden))
    return states


def embedded(model: JinaBert, batch: TrainingBatch) -> Tensor:
    """Embed a batch, shape (rows, hidden)."""
    sequences = Sequences(batch.lengths, batch.first.device)
    rows: Tensor = model.bert.embeddings(batch.input_ids, batch.token_type_ids, sequences)
    return rows


def bias_of(model: JinaBert, layer: int) -> Bias:
    """Build the bias of a layer's attention, on the model's device."""
    bias = Bias.of(model.architecture, layer, model.classifier.weight.device)
    assert bias is not None  # ALiBi always adds something
    return bias


def attended(
    layer: Layer, batch: TrainingBatch, biases: Sequence[Tensor], hidden: Tensor
) -> Tensor:
    """Outputs of a layer's heads for every token.

    Args:
        layer: A layer of the model.
        batch: What is read.
        biases: Biases of each of its groups, see `attention_biases`.
        hidden: What the layer below gives, shape (rows, hidden).

    Returns:
        Shape (rows, hidden).
    """
    q, k, v = layer.project(hidden)
    # All groups at once: backwards, a gather writes every row, also those that it leaves out.
    gathered = [torch.split(rows.index_select(0, batch._rows), batch._sizes) for rows in (q, k, v)]
    context = torch.cat([_attend(qkv, bias) for *qkv, bias in zip(*gathered, biases, strict=True)])
    return context.index_select(0, batch._place)


def _first_tokens(
    layer: Layer, batch: TrainingBatch, biases: Sequence[Tensor], hidden: Tensor
) -> Tensor:
    """A layer's output for the first tokens, shape (sequences, hidden)."""
    first = torch.cat([group.rows[:, 0] for group in batch.groups])
    counts = [len(group.rows) for group in batch.groups]
    # Filled up with any row, see the module.
    own = hidden.index_select(0, F.pad(first, (0, -len(first) % FIRST_MULTIPLE)))
    q = layer.query(own)
    k, v = (
        torch.split(projection(hidden).index_select(0, batch._rows), batch._sizes)
        for projection in layer.projections[1:]
    )
    context = torch.cat(
        [
            _attend(qkv, bias[:, :, :1])
            for *qkv, bias in zip(torch.split(q[: len(first)], counts), k, v, biases, strict=True)
        ]
    )
    context = F.pad(context, (0, 0, 0, len(own) - len(first)))
    return layer.after_attention(context, own).index_select(0, first.argsort())


def attention_biases(bias: Bias, batch: TrainingBatch, dtype: torch.dtype) -> list[Tensor]:
    """ALiBi's bias, and what hides padding and what is out of reach.

    Args:
        bias: On the batch's device.
        batch: What is read.
        dtype: Data type of the result.

    Returns:
        One for each group, shape (count, heads, length, length).
    """
    biases = []
    for group in batch.groups:
        position = torch.arange(group.rows.shape[1], device=group.rows.device)
        distance = (position[:, None] - position).abs()
        beyond = distance > bias.reaches.view(-1, 1, 1)
        whole = bias.sees_whole(group.mask.sum(1, keepdim=True))
        hidden = ~group.mask[:, None, None] | beyond & ~whole[..., None, None]
        near = bias.without_limits().at(distance)
        biases.append(near.masked_fill(hidden, HIDDEN).to(dtype))
    return biases


def _attend(qkv: Sequence[Tensor], bias: Tensor) -> Tensor:
    """Attention of a group; rows of sequences one after another, as many as the bias says."""
    count, heads, of, length = bias.shape
    q, k, v = (
        rows.view(count, many, heads, -1).transpose(1, 2)
        for rows, many in zip(qkv, (of, length, length), strict=True)
    )
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + bias
    context = F.softmax(scores, dim=-1) @ v
    return context.transpose(1, 2).reshape(count * of, -1)
