"""The layers on a CPU with oneDNN's fused kernels: the same numbers as the model's own, sooner.

What makes the difference lies between the matrix products:

- query, key and value come from one product;
- the activation, the product with it and the residual sums are computed within the matrix
  products, while their results are still in registers;
- rows go through the second half of a layer in blocks, so that the 1,536 numbers a token has in
  between stay in the cache, and oneDNN, which prepares a kernel for each shape, meets few shapes;
- weights are laid out once as the kernels want them, without heads that write nothing, and heads
  that see equally far one after another;
- the head reads the first token of a sequence only, so the last layer is computed for first tokens,
  without a key or a value of any other: see `_FirstTokens`.

torch has these kernels for its own compiler and keeps their names private: `can_fuse` tries them
out, and where they are missing or wrong the model's own layers do the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alibi import Bias
from .attention import attend
from .model import JinaBert, _GatedLayer, _Layer, _PlainLayer
from .packing import spans

ROWS_PER_BLOCK = 1024
"""Tokens that go through the second half of a layer together."""

ROWS_MULTIPLE = 64
"""Rows are filled up to a multiple of this, so that shapes recur; at most 63 are in vain."""

Activation = Literal["none", "gelu", "relu"]


class FusedEncoder:
    """The layers of a model, laid out anew.

    Args:
        model: On the CPU, with a dtype for which `can_fuse` holds. Its own layers are emptied,
            so that their weights are not in memory twice.
    """

    def __init__(self, model: JinaBert) -> None:
        activation: Activation = "relu" if model.config.feed_forward_type == "reglu" else "gelu"
        *layers, last = model.bert.encoder.layer
        bias = Bias.of(model.config, torch.device("cpu"))
        heads = range(model.config.num_attention_heads)
        nearest_first = sorted(heads, key=lambda head: -float(bias.slopes[head]))
        self._layers = [_AllTokens(layer, activation, nearest_first) for layer in layers]
        self._last = _FirstTokens(last, activation, heads)
        model.bert.encoder.layer = nn.ModuleList()

    def __call__(
        self, hidden: Tensor, runs: Sequence[tuple[int, int]], bias: Bias, first: Tensor
    ) -> Tensor:
        """Run all layers; see `Encode`."""
        hidden = _fill_up(hidden)
        for layer in self._layers:
            hidden = layer(hidden, runs, bias)
        return self._last(hidden, runs, bias.without_limits(), first)


def _fill_up(rows: Tensor) -> Tensor:
    return F.pad(rows, (0, 0, 0, -rows.shape[0] % ROWS_MULTIPLE))


class _FusedLayer:
    """What follows the attention; kinds differ in the tokens that attend.

    Args:
        layer: Of the model.
        activation: Of the feed-forward.
        heads: Which of its heads attend, in this order.
    """

    def __init__(self, layer: nn.Module, activation: Activation, heads: Sequence[int]) -> None:
        assert isinstance(layer, _Layer)
        self._heads = list(heads)
        out = _linear(layer.attention.output["dense"])
        self._out = _Linear(out.weight[:, _rows(layer, heads)], out.bias)
        self._attention_norm = layer.attention.output["LayerNorm"]
        self._units, self._times = _units(layer)
        self._from_units = _Linear(layer.out.weight, layer.out.bias)
        self._norm = layer.norm
        self._activation: Activation = activation

    def _finish(self, context: Tensor, hidden: Tensor) -> Tensor:
        """All that follows the attention, token by token."""
        out = torch.empty_like(hidden)
        for start in range(0, hidden.shape[0], ROWS_PER_BLOCK):
            rows = slice(start, start + ROWS_PER_BLOCK)
            attended = self._attention_norm(self._out(context[rows], plus=hidden[rows]))
            units = self._units(attended, activation=self._activation)
            if self._times is not None:
                units = self._times(attended, times=units)
            out[rows] = self._norm(self._from_units(units, plus=attended))
        return out


class _AllTokens(_FusedLayer):
    """A layer, computed for every token."""

    def __init__(self, layer: nn.Module, activation: Activation, heads: Sequence[int]) -> None:
        # One stays in any case, since kernels want something to multiply.
        heads = [head for head in heads if _writes(layer, head)] or heads[:1]
        super().__init__(layer, activation, heads)
        rows, projections = _rows(layer, heads), _projections(layer)
        self._qkv = _Linear(
            torch.cat([linear.weight[rows] for linear in projections]),
            torch.cat([linear.bias[rows] for linear in projections]),
        )

    def __call__(self, hidden: Tensor, runs: Sequence[tuple[int, int]], bias: Bias) -> Tensor:
        qkv = self._qkv(hidden)
        heads, bias = len(self._heads), bias.of_heads(self._heads)
        # Zeros for the rows that belong to no sequence.
        context = qkv.new_zeros(len(qkv), qkv.shape[1] // 3)
        for rows, length, count in spans(runs):
            q, k, v = qkv[rows].view(count, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
            own = context[rows].view(count, length, heads, -1)
            own.copy_(attend(q, k, v, bias).transpose(1, 2))
        return self._finish(context, hidden)


class _FirstTokens(_FusedLayer):
    """The last layer, computed for the first token of each sequence.

    No other token needs a query, nor a key and a value of its own. A head's query q meets the key
    of a token x as q . (K x + k) = (q K) . x + q . k: one vector for each head that meets the
    tokens themselves, and a constant that the softmax does not see. Values are a product as well,
    V x + v, so the tokens are averaged first and the product is taken once.

    All of this is computed in float32: it is next to nothing, and a query taken through the keys
    would lose more by rounding than a key does.
    """

    def __init__(self, layer: nn.Module, activation: Activation, heads: Sequence[int]) -> None:
        super().__init__(layer, activation, heads)
        query, key, value = _projections(layer)
        by_head = (len(heads), -1, query.in_features)
        self._query = (query.weight.float(), query.bias.float())
        self._keys = key.weight.float().view(by_head)
        self._values = value.weight.float().view(by_head)
        self._value_bias = value.bias.float()

    def __call__(
        self, hidden: Tensor, runs: Sequence[tuple[int, int]], bias: Bias, first: Tensor
    ) -> Tensor:
        own = hidden[first]
        queries = F.linear(own.float(), *self._query).view(len(first), len(self._heads), -1)
        scale = queries.shape[-1] ** -0.5
        meeting = torch.einsum("nhd,hdx->nhx", queries, self._keys)
        mean = torch.empty_like(meeting)
        done = 0
        for rows, length, count in spans(runs):
            tokens = hidden[rows].float().view(count, 1, length, -1)
            added = bias.at(torch.arange(length))
            those = slice(done, done + count)
            mean[those] = F.scaled_dot_product_attention(
                meeting[those, None], tokens, tokens, attn_mask=added[None, None], scale=scale
            ).squeeze(1)
            done += count
        context = torch.einsum("nhx,hdx->nhd", mean, self._values).flatten(1) + self._value_bias
        return self._finish(_fill_up(context.to(own.dtype)), _fill_up(own))[: len(first)]


def _projections(layer: nn.Module) -> list[nn.Linear]:
    """What makes queries, keys and values."""
    assert isinstance(layer, _Layer)
    return [_linear(layer.attention.self[name]) for name in ("query", "key", "value")]


def _rows(layer: nn.Module, heads: Sequence[int]) -> Tensor:
    """Of what is projected, those that belong to some heads."""
    assert isinstance(layer, _Layer)
    size = _projections(layer)[0].out_features // layer.attention.heads
    return torch.cat([torch.arange(head * size, (head + 1) * size) for head in heads])


def _writes(layer: nn.Module, head: int) -> bool:
    assert isinstance(layer, _Layer)
    written = _linear(layer.attention.output["dense"]).weight[:, _rows(layer, [head])]
    return bool(written.any())


def _units(layer: _Layer) -> tuple[_Linear, _Linear | None]:
    """What the activation is applied to, and what its result is multiplied by."""
    if isinstance(layer, _GatedLayer):
        gate, value = layer.mlp.gated_layers.weight.chunk(2)
        return _Linear(gate), _Linear(value)
    assert isinstance(layer, _PlainLayer)
    into = layer.intermediate.dense
    return _Linear(into.weight, into.bias), None


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module


class _Linear:
    """A matrix product with what follows it, in one kernel.

    Args:
        weight: Shape (out, in).
        bias: Shape (out,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS_PER_BLOCK)
        self._bias = bias

    def __call__(
        self,
        x: Tensor,
        *,
        activation: Activation = "none",
        plus: Tensor | None = None,
        times: Tensor | None = None,
    ) -> Tensor:
        fused = torch.ops.mkldnn._linear_pointwise
        out: Tensor
        if plus is not None:
            out = fused.binary(x, plus, self._weight, self._bias, "add")
        elif times is not None:
            out = fused.binary(x, times, self._weight, self._bias, "mul")
        else:  # "none" after the activation: the erf GELU and not its tanh approximation
            out = fused.default(x, self._weight, self._bias, activation, [], "none")
        return out


@cache
def can_fuse(dtype: torch.dtype) -> bool:
    """Whether this torch has the kernels for a dtype on this processor, and they are right."""
    x = torch.linspace(-3, 3, 64 * 32, dtype=torch.float32).view(64, 32).to(dtype)
    weight = torch.linspace(-0.5, 0.5, 32 * 32, dtype=torch.float32).view(32, 32).to(dtype)
    plain = F.linear(x, weight)
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    try:
        linear = _Linear(weight)
        pairs = [
            (linear(x), plain),
            (linear(x, activation="gelu"), F.gelu(plain)),
            (linear(x, activation="relu"), F.relu(plain)),
            (linear(x, plus=x), plain + x),
            (linear(x, times=x), plain * x),
        ]
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return all(torch.allclose(a.float(), b.float(), tolerance, tolerance) for a, b in pairs)
