"""The layers on a CPU with fused kernels: the same numbers as from torch's modules, in less time.

The differences from torch's modules are:

- query, key and value come from one product;
- the activation, the product with it and the residual sums are computed within the matrix
  products, while their results are still in registers: see `FusedProduct`;
- rows go through the second half of a layer in blocks, so that a token's 1,536 intermediate numbers
  stay in the cache, and oneDNN, which prepares a kernel for each shape, gets few shapes;
- weights are laid out once as the kernels require, without heads that write nothing, and with heads
  of equal reach next to each other, and dimensions that are rotated together next to each other;
- where the head reads first tokens only, the last layer is computed for these, in float32, without
  the values of other tokens: see `FirstTokens`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .architecture import Activation, Architecture, Rotary
from .attention import PackedAttention
from .block import Block
from .first_tokens import FirstTokens
from .layer import Layer
from .model import EncoderModel
from .modules import normed
from .products import ROWS_PER_BLOCK, FusedProducts, Products
from .rotary import neighbours
from .sequences import Sequences

ROWS_MULTIPLE = 64
"""Rows are filled up to a multiple of this, so that shapes recur; at most 63 rows are wasted."""


class FusedEncoder:
    """The layers of a model, copied into the layout of the kernels; the model is not changed.

    Args:
        model: The model, on the CPU, with a dtype that `products` support.
        products: Layout of the weights of all layers, except a last layer that is computed for
            first tokens only; None for `FusedProducts`.
    """

    def __init__(self, model: EncoderModel, *, products: Products | None = None) -> None:
        architecture = model.architecture
        self._attention = PackedAttention(architecture, torch.device("cpu"), neighbours=True)
        products = products or FusedProducts()
        self._pools_means = architecture.head.pooling == "mean"
        self._final_norm = model.final_norm
        layers = list(enumerate(model.bert.encoder.layers))
        first_only = [] if self._pools_means else [layers.pop()]
        self._layers = [
            FusedLayer(
                layer, architecture, _nearest_first(self._attention, layer, number), products
            )
            for number, layer in layers
        ]
        self._last = [
            FirstTokens(layer, architecture, self._attention, number)
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
    """List the heads of a layer whose output weights are not all zero, the steepest slope first."""
    heads = list(range(layer.attention.heads))
    bias = attention.bias(number)
    if bias is not None:
        heads.sort(key=lambda head: -float(bias.slopes[head]))
    written = torch.unflatten(layer.attention.output.dense.weight, 1, (len(heads), -1))
    # At least one head stays, since kernels cannot multiply empty matrices.
    return [head for head in heads if bool(written[:, head].any())] or heads[:1]


def _fill_up(rows: Tensor) -> Tensor:
    return F.pad(rows, (0, 0, 0, -rows.shape[0] % ROWS_MULTIPLE))


class FusedLayer(Block[Tensor]):
    """A layer with fused kernels.

    Args:
        layer: A layer of the model.
        architecture: The model's architecture.
        heads: The heads that are computed, in this order.
        products: Layout of the layer's weights.

    Attributes:
        heads: As given.
    """

    def __init__(
        self,
        layer: Layer,
        architecture: Architecture,
        heads: Sequence[int],
        products: Products,
    ) -> None:
        self.norm_first = layer.norm_first
        self.has_gate = layer.has_gate
        self.heads = list(heads)
        self._activation: Activation = architecture.activation
        rows = _rows(heads, torch.arange(architecture.head_size))
        rotated = rows
        if isinstance(architecture.positions, Rotary):
            rotated = _rows(heads, neighbours(architecture.head_size))
        own = list(zip(layer.projections, (rotated, rotated, rows), strict=True))
        self._qkv = products.projections(
            torch.cat([linear.weight[rows] for linear, rows in own]),
            torch.cat([linear.bias[rows] for linear, rows in own])
            if architecture.attention_bias
            else None,
            len(heads),
        )
        out = layer.attention.output
        self._attention_out = products.product(out.dense.weight[:, rows], out.dense.bias)
        self._attention_norm, self._norm = out.LayerNorm, layer.norm
        into = layer.into_units
        parts = 2 if layer.has_gate else 1
        weights = into.weight.chunk(parts)
        biases = [None] * parts if into.bias is None else into.bias.chunk(parts)
        self._into = [products.product(w, b) for w, b in zip(weights, biases, strict=True)]
        self._out = products.product(layer.out.weight, layer.out.bias)

    def after_attention(self, context: Tensor, hidden: Tensor) -> Tensor:
        """Compute the rest of the layer after attention, in blocks of rows."""
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


def _rows(heads: Sequence[int], order: Tensor) -> Tensor:
    """List the rows of the projections that belong to some heads, each head's in an order."""
    return torch.cat([head * len(order) + order for head in heads])
