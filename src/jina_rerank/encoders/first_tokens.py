"""The last layer on a CPU, where the head reads first tokens only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .architecture import Architecture, Rotary
from .attention import PackedAttention, turn
from .layer import Layer
from .products import FusedProduct
from .sequences import Sequences


class FirstTokens:
    """The last layer, computed for the first token of each sequence, in float32.

    The other tokens need no query and no value: values are a product, V x + v, so the tokens x are
    averaged first and the product is computed once. They need no key either, unless keys are
    rotated: the score of a head's query q and a token x is q . (K x + k) = (q K) . x + q . k. So
    each head has one vector that is multiplied with the tokens themselves, and a constant that does
    not change the softmax.

    All of this is computed in float32: it costs next to nothing, and the product of a query and the
    key weights would lose more by rounding than a key does. The steps after attention are in
    float32 too, so that texts that differ a little do not tie as they would in bfloat16.
    """

    def __init__(
        self, layer: Layer, architecture: Architecture, attention: PackedAttention, number: int
    ) -> None:
        self._attention, self._number = attention, number
        self._heads, size = architecture.num_attention_heads, architecture.head_size
        self._layer = _in_float32(layer, architecture)
        query, key, value = self._layer.projections
        self._query = query
        by_head = (self._heads, size, architecture.hidden_size)
        self._keys, self._values = key.weight.view(by_head), value.weight.view(by_head)
        self._value_bias = value.bias
        self._turned_keys: FusedProduct | None = None
        if isinstance(architecture.positions, Rotary):
            own = layer.projections[1]
            self._turned_keys = FusedProduct(own.weight, own.bias)

    def of_sequences(self, hidden: Tensor, sequences: Sequences) -> Tensor:
        """Compute the layer, shape (sequences, hidden)."""
        own = hidden[sequences.first].float()
        inputs = self._layer.before_attention(hidden)
        queries = self._query(self._layer.before_attention(own)).view(len(own), self._heads, -1)
        if self._turned_keys is None:
            mean = self._means_by_tokens(queries, inputs, sequences)
        else:
            mean = self._means_by_keys(queries, inputs, self._turned_keys(inputs), sequences)
        context = torch.einsum("nhx,hdx->nhd", mean, self._values).flatten(1)
        if self._value_bias is not None:
            context = context + self._value_bias
        return self._layer.after_attention(context, own)

    def _means_by_tokens(self, queries: Tensor, inputs: Tensor, sequences: Sequences) -> Tensor:
        """Average the tokens by attention, shape (sequences, heads, hidden)."""
        meeting = torch.einsum("nhd,hdx->nhx", queries, self._keys)
        scale, parts, done = queries.shape[-1] ** -0.5, [], 0
        for rows, length, count in sequences.spans():
            tokens = inputs[rows].float().view(count, 1, length, -1)
            added = self._added(length)
            mask = None if added is None else added.squeeze(2)[:, None]
            mean = F.scaled_dot_product_attention(
                meeting[done : done + count, None], tokens, tokens, attn_mask=mask, scale=scale
            )
            parts.append(mean.squeeze(1))
            done += count
        return torch.cat(parts)

    def _means_by_keys(
        self, queries: Tensor, inputs: Tensor, keys: Tensor, sequences: Sequences
    ) -> Tensor:
        """Average the tokens by attention to rotated keys, shape (sequences, heads, hidden)."""
        turned = self._attention.rotation(self._number, sequences)
        assert turned is not None
        keys = turn(keys.float(), self._heads, turned)
        parts, done = [], 0
        for rows, length, count in sequences.spans():
            key = keys[rows].view(count, length, self._heads, -1).transpose(1, 2)
            # Place 0 is not rotated.
            query = queries[done : done + count, :, None] * queries.shape[-1] ** -0.5
            scores = query @ key.mT
            added = self._added(length)
            weights = (scores if added is None else scores + added).softmax(-1).squeeze(2)
            parts.append(weights @ inputs[rows].float().view(count, length, -1))
            done += count
        return torch.cat(parts)

    def _added(self, length: int) -> Tensor | None:
        bias = self._attention.bias(self._number)
        return None if bias is None else bias.of_first(length)


def _in_float32(layer: Layer, architecture: Architecture) -> Layer:
    """Copy a layer to float32; weights that are in float32 already are shared."""
    with torch.device("meta"):
        copy = Layer(architecture, 0 if layer.attention.output.LayerNorm is None else 1)
    state = {name: tensor.float() for name, tensor in layer.state_dict().items()}
    copy.load_state_dict(state, assign=True)
    return copy.requires_grad_(False)
