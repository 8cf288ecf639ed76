"""The forward pass of training, which is differentiable.

The tokens of all sequences are in one matrix, as in inference. For attention they are gathered into
small padded groups of about equal length: the backward pass of inference's kernel takes twice as
long as the plain products written out here (measured on a CPU at turbo's shape). Numbers of rows
and lengths are padded to multiples, because oneDNN prepares kernels for each new shape. With new
shapes in every step, that would take seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ...encoders import EncoderModel
from ...encoders.attention import PackedAttention, turn
from ...encoders.bias import Bias
from ...encoders.layer import Layer
from ...encoders.sequences import Sequences
from ...encoders.tokenizer import TokenPair

ROWS_MULTIPLE = 512
LENGTH_MULTIPLE = 32
FIRST_MULTIPLE = 64
GROUP_TOKENS = 2048
"""Approximate number of tokens in a group."""

Angles: TypeAlias = "tuple[Tensor, Tensor]"

HIDDEN = -1e4
"""The amount added to the score of a key that is padding or out of reach. Finite, so that bf16
arithmetic stays finite too."""


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences of about equal length.

    Attributes:
        rows: Rows of the sequences' tokens, shape (count, length); arbitrary for padding.
        mask: False for padding, same shape.
    """

    rows: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Sequences one after another in one matrix.

    Attributes:
        input_ids: Token ids, shape (rows,), int64; zero behind the last sequence.
        token_type_ids: Token types, same shape.
        lengths: Number of tokens of each sequence.
        first: Row of each sequence's first token, shape (sequences,).
        groups: Groups into which the sequences are gathered for attention.
        sequences: Positions of the sequences, in the form that inference uses.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    lengths: Sequence[int]
    first: Tensor
    groups: Sequence[Group]
    sequences: Sequences
    _rows: Tensor
    _place: Tensor

    @classmethod
    def of(cls, pairs: Sequence[TokenPair], device: torch.device | str = "cpu") -> Self:
        """Put sequences one after another.

        Args:
            pairs: The sequences, at least one.
            device: Device of the tensors.
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
            torch.tensor(first, device=device), groups, Sequences(lengths, torch.device(device)),
            torch.cat([group.rows.flatten() for group in groups]), place.to(device),
        )  # fmt: skip

    @property
    def _sizes(self) -> list[int]:
        return [group.rows.numel() for group in self.groups]

    @property
    def tokens(self) -> int:
        """Number of rows that hold a token."""
        return sum(self.lengths)


def _grouped(lengths: Sequence[int]) -> list[tuple[list[int], int]]:
    """Group sequences of similar length: their positions, and the length they are padded to."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    groups = []
    while order:
        length = lengths[order[0]] + -lengths[order[0]] % LENGTH_MULTIPLE
        count = max(1, GROUP_TOKENS // length)
        groups.append((order[:count], length))
        order = order[count:]
    return groups


def pooled(model: EncoderModel, batch: TrainingBatch) -> tuple[list[Tensor], Tensor]:
    """Compute the layers' outputs and the head's input.

    Args:
        model: The model, in any dtype.
        batch: The sequences, on the model's device.

    Returns:
        The embeddings and the output of each layer but the last, see `hidden_states`; and a vector
        for each sequence, shape (sequences, hidden), float32.
    """
    means = model.architecture.head.pooling == "mean"
    *states, last = hidden_states(model, batch, whole=means)
    if means:
        return states, batch.sequences.means(model.final_norm(last[: batch.tokens]))
    return states, model.final_norm(last)


def hidden_states(model: EncoderModel, batch: TrainingBatch, *, whole: bool = True) -> list[Tensor]:
    """Compute the embeddings and the output of each layer.

    Args:
        model: The model, in any dtype. The bias is rounded to it, in bfloat16 with a relative error
            of 1/512.
        batch: The sequences, on the model's device.
        whole: True to compute the last layer for all tokens; False for each sequence's first token
            only, which is all that most heads read.

    Returns:
        The embeddings and the output of each layer, each of shape (rows, hidden), undefined behind
        the last sequence. Without `whole` the last one has shape (sequences, hidden).
    """
    hidden = embedded(model, batch)
    attention = PackedAttention(model.architecture, hidden.device)
    windows = model.architecture.windows
    biases: dict[int | None, list[Tensor]] = {}
    states = [hidden]
    last = len(windows) - 1
    for number, layer in enumerate(model.bert.encoder.layers):
        window = windows[number]
        if window not in biases:
            biases[window] = attention_biases(attention.bias(number), batch, hidden.dtype)
        angles = attention.rotation(number, batch.sequences)
        if whole or number < last:
            inputs = layer.before_attention(hidden)
            context = attended(layer, batch, biases[window], inputs, angles)
            hidden = layer.after_attention(context, hidden)
        else:
            hidden = _first_tokens(layer, batch, biases[window], hidden, angles)
        states.append(hidden)
    return states


def embedded(model: EncoderModel, batch: TrainingBatch) -> Tensor:
    """Embed a batch, shape (rows, hidden)."""
    rows: Tensor = model.bert.embeddings(batch.input_ids, batch.token_type_ids, batch.sequences)
    return rows


def bias_of(model: EncoderModel, layer: int) -> Bias:
    """Build the bias of a layer's attention, on the model's device."""
    bias = Bias.of(model.architecture, layer, model.classifier.weight.device)
    assert bias is not None  # ALiBi always adds something
    return bias


def attended(
    layer: Layer,
    batch: TrainingBatch,
    biases: Sequence[Tensor],
    inputs: Tensor,
    angles: Angles | None = None,
) -> Tensor:
    """Compute the outputs of a layer's heads for every token.

    Args:
        layer: A layer of the model.
        batch: The sequences.
        biases: Biases of each of the batch's groups, see `attention_biases`.
        inputs: Input of the projections of queries, keys and values, shape (rows, hidden).
        angles: Cosines and sines by which queries and keys are rotated, see
            `PackedAttention.rotation`; None for no rotation.

    Returns:
        Shape (rows, hidden).
    """
    heads = layer.attention.heads
    q, k, v = layer.project(inputs)
    if angles is not None:
        q, k = (_rotated(rows, heads, angles) for rows in (q, k))
    # All groups at once: the backward pass of a gather writes every row, not only gathered ones.
    gathered = [torch.split(rows.index_select(0, batch._rows), batch._sizes) for rows in (q, k, v)]
    context = torch.cat(
        [_attend(qkv, bias, heads) for *qkv, bias in zip(*gathered, biases, strict=True)]
    )
    return context.index_select(0, batch._place)


def _first_tokens(
    layer: Layer,
    batch: TrainingBatch,
    biases: Sequence[Tensor],
    hidden: Tensor,
    angles: Angles | None,
) -> Tensor:
    """Compute a layer's output for the first tokens, shape (sequences, hidden)."""
    inputs, heads = layer.before_attention(hidden), layer.attention.heads
    first = torch.cat([group.rows[:, 0] for group in batch.groups])
    counts = [len(group.rows) for group in batch.groups]
    # Padded with an arbitrary row; the module's docstring says why.
    rows = F.pad(first, (0, -len(first) % FIRST_MULTIPLE))
    own = hidden.index_select(0, rows)
    # Queries at position 0 are not rotated.
    q = layer.query(inputs.index_select(0, rows))
    key = layer.key(inputs)
    if angles is not None:
        key = _rotated(key, heads, angles)
    k, v = (
        torch.split(projected.index_select(0, batch._rows), batch._sizes)
        for projected in (key, layer.value(inputs))
    )
    context = torch.cat(
        [
            _attend(qkv, bias[:, :, :1], heads)
            for *qkv, bias in zip(torch.split(q[: len(first)], counts), k, v, biases, strict=True)
        ]
    )
    context = F.pad(context, (0, 0, 0, len(own) - len(first)))
    return layer.after_attention(context, own).index_select(0, first.argsort())


def _rotated(rows: Tensor, heads: int, angles: Angles) -> Tensor:
    """Rotate the queries or keys of all tokens; rows behind the last token become 0."""
    turned = turn(rows, heads, angles)
    return F.pad(turned, (0, 0, 0, len(rows) - len(turned)))


def attention_biases(bias: Bias | None, batch: TrainingBatch, dtype: torch.dtype) -> list[Tensor]:
    """Compute a layer's bias with a mask of padding and of keys that are out of reach.

    Args:
        bias: The bias, on the batch's device; None for none.
        batch: The sequences.
        dtype: Data type of the result.

    Returns:
        One bias for each group, shape (count, heads, length, length); without a bias there is
        one head, and one row for all queries.
    """
    biases = []
    for group in batch.groups:
        if bias is None:
            padding = ~group.mask[:, None, None]
            biases.append(torch.zeros_like(padding, dtype=dtype).masked_fill(padding, HIDDEN))
            continue
        position = torch.arange(group.rows.shape[1], device=group.rows.device)
        distance = (position[:, None] - position).abs()
        beyond = distance > bias.reaches.view(-1, 1, 1)
        whole = bias.sees_whole(group.mask.sum(1, keepdim=True))
        hidden = ~group.mask[:, None, None] | beyond & ~whole[..., None, None]
        near = bias.without_limits().at(distance)
        biases.append(near.masked_fill(hidden, HIDDEN).to(dtype))
    return biases


def _attend(qkv: Sequence[Tensor], bias: Tensor, heads: int) -> Tensor:
    """Compute the attention of a group; its sequences' rows follow one another."""
    count = len(bias)
    q, k, v = (rows.view(count, len(rows) // count, heads, -1).transpose(1, 2) for rows in qkv)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + bias
    context = F.softmax(scores, dim=-1) @ v
    return context.transpose(1, 2).reshape(len(qkv[0]), -1)
