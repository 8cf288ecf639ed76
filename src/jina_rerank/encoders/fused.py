"""The layers on a CPU with oneDNN's fused kernels: the same numbers as torch's modules, sooner.

The difference lies between the matrix products:

- query, key and value come from one product;
- the activation, the product with it and the residual sums are computed within the matrix
  products, while their results are still in registers;
- rows go through the second half of a layer in blocks, so that the 1,536 numbers a token has in
  between stay in the cache, and oneDNN, which prepares a kernel for each shape, meets few shapes;
- weights are laid out once as the kernels want them, without heads that write nothing, and heads
  that see equally far one after another;
- where the head reads first tokens only, the last layer is computed for these, in float32, without
  a value of any other: see `_FirstTokens`.

torch has these kernels for its own compiler and keeps their names private: `can_fuse` tries them
out, and where they are missing or wrong torch's modules do the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .architecture import Activation, Architecture, Rotary
from .attention import PackedAttention, turn
from .block import Block
from .layer import Layer
from .model import EncoderModel
from .modules import normed
from .sequences import Sequences

ROWS_PER_BLOCK = 1024
"""Tokens that go through the second half of a layer together."""

ROWS_MULTIPLE = 64
"""Rows are filled up to a multiple of this, so that shapes recur; at most 63 are in vain."""


class FusedEncoder:
    """The layers of a model, laid out anew; the model is left whole.

    Args:
        model: On the CPU, with a dtype for which `can_fuse` holds.
    """

    def __init__(self, model: EncoderModel) -> None:
        architecture = model.architecture
        self._attention = PackedAttention(architecture, torch.device("cpu"))
        self._pools_means = architecture.head.pooling == "mean"
        self._final_norm = model.final_norm
        layers = list(enumerate(model.bert.encoder.layers))
        first_only = [] if self._pools_means else [layers.pop()]
        self._layers = [
            FusedLayer(layer, architecture, _nearest_first(self._attention, layer, number))
            for number, layer in layers
        ]
        self._last = [
            _FirstTokens(layer, architecture, self._attention, number)
            for number, layer in first_only
        ]

    def __call__(self, hidden: Tensor, sequences: Sequences) -> Tensor:
        """Run all layers; see `Encode`."""
        hidden = _fill_up(hidden)
        for number, layer in enumerate(self._layers):
            attend = self._attention.of_layer(number, sequences, layer.heads)
            hidden = layer.run(hidden, attend)
        if self._pools_means:
            return sequences.means(self._final_norm(hidden[: sequences.tokens]))
        (last,) = self._last
        return self._final_norm(last.of_sequences(hidden, sequences))


def _nearest_first(attention: PackedAttention, layer: Layer, number: int) -> list[int]:
    """The heads of a layer that write anything, those with the steepest slope first."""
    heads = list(range(layer.attention.heads))
    bias = attention.bias(number)
    if bias is not None:
        heads.sort(key=lambda head: -float(bias.slopes[head]))
    written = torch.unflatten(layer.attention.output.dense.weight, 1, (len(heads), -1))
    # One stays in any case, since kernels want something to multiply.
    return [head for head in heads if bool(written[:, head].any())] or heads[:1]


def _fill_up(rows: Tensor) -> Tensor:
    return F.pad(rows, (0, 0, 0, -rows.shape[0] % ROWS_MULTIPLE))


class FusedLayer(Block[Tensor]):
    """A layer with fused kernels.

    Args:
        layer: A layer of the model.
        architecture: The model's.
        heads: Which heads attend, in this order.

    Attributes:
        heads: As given.
    """

    def __init__(self, layer: Layer, architecture: Architecture, heads: Sequence[int]) -> None:
        self.norm_first = layer.norm_first
        self.has_gate = layer.has_gate
        self.heads = list(heads)
        self._activation: Activation = architecture.activation
        rows = _rows(architecture.head_size, heads)
        self._qkv = FusedProduct(
            torch.cat([linear.weight[rows] for linear in layer.projections]),
            torch.cat([linear.bias[rows] for linear in layer.projections])
            if architecture.attention_bias
            else None,
        )
        out = layer.attention.output
        self._attention_out = FusedProduct(out.dense.weight[:, rows], out.dense.bias)
        self._attention_norm, self._norm = out.LayerNorm, layer.norm
        into = layer.into_units
        parts = 2 if layer.has_gate else 1
        weights = into.weight.chunk(parts)
        biases = [None] * parts if into.bias is None else into.bias.chunk(parts)
        self._into = [FusedProduct(w, b) for w, b in zip(weights, biases, strict=True)]
        self._out = FusedProduct(layer.out.weight, layer.out.bias)

    def after_attention(self, context: Tensor, hidden: Tensor) -> Tensor:
        """Compute what follows attention, in blocks of rows."""
        finished = torch.empty_like(hidden)
        for start in range(0, hidden.shape[0], ROWS_PER_BLOCK):
            rows = slice(start, start + ROWS_PER_BLOCK)
            finished[rows] = super().after_attention(context[rows], hidden[rows])
        return finished

    def project(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values as columns of one product."""
        query, key, value = self._qkv(rows).chunk(3, dim=1)
        return query, key, value

    def attention_out(self, context: Tensor, residual: Tensor) -> Tensor:
        """Compute attention's output product, plus the residual."""
        return self._attention_out.plus(context, residual)

    def normed_attention(self, rows: Tensor) -> Tensor:
        """Apply attention's layer norm, where the layer has one."""
        return rows if self._attention_norm is None else normed(self._attention_norm, rows)

    def activated(self, rows: Tensor) -> Tensor:
        """Compute the activation of the first product of the feed-forward."""
        return self._into[0].activated(rows, self._activation)

    def gated(self, rows: Tensor, activated: Tensor) -> Tensor:
        """Compute the second product of a gated feed-forward, times the activated units."""
        return self._into[1].times(rows, activated)

    def feed_forward_out(self, units: Tensor, residual: Tensor) -> Tensor:
        """Compute the feed-forward's output product, plus the residual."""
        return self._out.plus(units, residual)

    def normed(self, rows: Tensor) -> Tensor:
        """Apply the feed-forward's layer norm."""
        return normed(self._norm, rows)


class _FirstTokens:
    """The last layer, computed for the first token of each sequence, in float32.

    No other token needs a query, nor a value of its own: values are a product, V x + v, so the
    tokens x are averaged first and the product is taken once. Nor is a key needed where keys are
    not turned: a head's query q meets the key of a token x as q . (K x + k) = (q K) . x + q . k,
    one vector for each head that meets the tokens themselves, and a constant that the softmax does
    not see.

    All of this is computed in float32: it is next to nothing, and a query taken through the keys
    would lose more by rounding than a key does. What follows the attention is too, so that texts
    that differ a little in bfloat16 do not tie.
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
        """Do the same with turned keys."""
        turned = self._attention.rotation(self._number, sequences)
        assert turned is not None
        keys = turn(keys.float(), self._heads, turned)
        parts, done = [], 0
        for rows, length, count in sequences.spans():
            key = keys[rows].view(count, length, self._heads, -1).transpose(1, 2)
            # Place 0 is not turned.
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
    """The same layer in float32, sharing weights that are so already."""
    with torch.device("meta"):
        copy = Layer(architecture, 0 if layer.attention.output.LayerNorm is None else 1)
    state = {name: tensor.float() for name, tensor in layer.state_dict().items()}
    copy.load_state_dict(state, assign=True)
    return copy.requires_grad_(False)


def _rows(head_size: int, heads: Sequence[int]) -> Tensor:
    """Rows of the projections that belong to some heads."""
    return torch.cat([torch.arange(head * head_size, (head + 1) * head_size) for head in heads])


class FusedProduct:
    """A matrix product with what follows it, in one kernel.

    Args:
        weight: Shape (out, in).
        bias: Shape (out,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS_PER_BLOCK)
        self._bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the product alone."""
        return self._unary(x, "none")

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """Compute the product's activation."""
        return self._unary(x, activation)

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """Compute the product plus a matrix of its shape."""
        return self._binary(x, other, "add")

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Compute the product times a matrix of its shape."""
        return self._binary(x, other, "mul")

    def _unary(self, x: Tensor, kind: str) -> Tensor:
        # "none" at the end: the erf GELU and not its tanh approximation
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            x, self._weight, self._bias, kind, [], "none"
        )
        return out

    def _binary(self, x: Tensor, other: Tensor, kind: str) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, other, self._weight, self._bias, kind
        )
        return out


@cache
def can_fuse(dtype: torch.dtype) -> bool:
    """Tell whether this torch has the kernels for a dtype on this processor, and they are right."""
    x = torch.linspace(-3, 3, 64 * 32, dtype=torch.float32).view(64, 32).to(dtype)
    weight = torch.linspace(-0.5, 0.5, 32 * 32, dtype=torch.float32).view(32, 32).to(dtype)
    plain = F.linear(x, weight)
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    try:
        product = FusedProduct(weight)
        pairs = [
            (product(x), plain),
            (product.activated(x, "gelu"), F.gelu(plain)),
            (product.activated(x, "relu"), F.relu(plain)),
            (product.plus(x, x), plain + x),
            (product.times(x, x), plain * x),
        ]
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return all(torch.allclose(a.float(), b.float(), tolerance, tolerance) for a, b in pairs)
