"""A transformer layer as torch's modules, and the head's."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .architecture import Activation, Architecture
from .block import Block
from .modules import new_norm, normed, product

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
}


class Layer(Block[Tensor], nn.Module):
    """A transformer layer as torch's modules, with BERT's names.

    Computes in the dtype of its input, whatever the dtype of the weights.

    Args:
        architecture: The shape.
        number: Number of the layer, from 0.
    """

    def __init__(self, architecture: Architecture, number: int) -> None:
        super().__init__()
        self.norm_first = architecture.norm_first
        self.has_gate = architecture.gated
        self._activation = ACTIVATIONS[architecture.activation]
        has_norm = number > 0 or not architecture.norm_first
        self.attention = SelfAttention(architecture, has_norm=has_norm)
        if architecture.gated:
            self.mlp = GatedFeedForward(architecture)
        else:
            self.intermediate = Dense(
                architecture.hidden_size, architecture.intermediate_size, architecture.units_bias
            )
            self.output = DenseAndNorm(
                architecture, architecture.intermediate_size, bias=architecture.out_bias
            )

    @property
    def projections(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The products that make queries, keys and values."""
        own = self.attention.self
        return own.query, own.key, own.value

    @property
    def into_units(self) -> nn.Linear:
        """The product before the activation; with a gate, its second half is the factor."""
        return self.mlp.gated_layers if self.has_gate else self.intermediate.dense

    @property
    def out(self) -> nn.Linear:
        """The product behind the units."""
        return self.mlp.wo if self.has_gate else self.output.dense

    @property
    def norm(self) -> nn.LayerNorm:
        """The feed-forward's norm."""
        if self.has_gate:
            return self.mlp.layernorm
        assert self.output.LayerNorm is not None
        return self.output.LayerNorm

    def query(self, rows: Tensor) -> Tensor:
        """Compute queries alone."""
        return product(self.attention.self.query, rows)

    def key(self, rows: Tensor) -> Tensor:
        """Compute keys alone."""
        return product(self.attention.self.key, rows)

    def value(self, rows: Tensor) -> Tensor:
        """Compute values alone."""
        return product(self.attention.self.value, rows)

    def project(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values."""
        return self.query(rows), self.key(rows), self.value(rows)

    def attention_out(self, context: Tensor, residual: Tensor) -> Tensor:
        """Compute attention's output product, plus the residual."""
        return residual + product(self.attention.output.dense, context)

    def normed_attention(self, rows: Tensor) -> Tensor:
        """Apply attention's layer norm, where the layer has one."""
        norm = self.attention.output.LayerNorm
        return rows if norm is None else normed(norm, rows)

    def activated(self, rows: Tensor) -> Tensor:
        """Compute the activation of the first product of the feed-forward."""
        return self._activation(self._half(rows, 0))

    def gated(self, rows: Tensor, activated: Tensor) -> Tensor:
        """Compute the second product of a gated feed-forward, times the activated units."""
        return activated * self._half(rows, 1)

    def _half(self, rows: Tensor, half: int) -> Tensor:
        into = self.into_units
        if not self.has_gate:
            return product(into, rows)
        weight = into.weight.chunk(2)[half].to(rows.dtype)
        return F.linear(rows, weight, None if into.bias is None else into.bias.chunk(2)[half])

    def feed_forward_out(self, units: Tensor, residual: Tensor) -> Tensor:
        """Compute the feed-forward's output product, plus the residual."""
        return residual + product(self.out, units)

    def normed(self, rows: Tensor) -> Tensor:
        """Apply the feed-forward's layer norm."""
        return normed(self.norm, rows)


class SelfAttention(nn.Module):
    """The products of attention; `self` and `output` are the checkpoint's names for the halves.

    Args:
        architecture: The shape.
        has_norm: Whether there is a norm, after or before attention.
    """

    def __init__(self, architecture: Architecture, *, has_norm: bool) -> None:
        super().__init__()
        self.heads = architecture.num_attention_heads
        self.self = Projections(architecture)
        self.output = DenseAndNorm(
            architecture,
            architecture.hidden_size,
            bias=architecture.attention_bias,
            has_norm=has_norm,
        )


class Projections(nn.Module):
    """The products that make queries, keys and values.

    Args:
        architecture: The shape.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        hidden, bias = architecture.hidden_size, architecture.attention_bias
        self.query = nn.Linear(hidden, hidden, bias=bias)
        self.key = nn.Linear(hidden, hidden, bias=bias)
        self.value = nn.Linear(hidden, hidden, bias=bias)


class Dense(nn.Module):
    """One product.

    Args:
        given: Columns of its input.
        wanted: Columns of its output.
        bias: Whether it has a bias.
    """

    def __init__(self, given: int, wanted: int, bias: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(given, wanted, bias=bias)


class DenseAndNorm(Dense):
    """A product back to the hidden size, and a norm.

    Args:
        architecture: The shape.
        given: Columns of its input.
        bias: Whether the product has a bias.
        has_norm: Whether there is a norm.
    """

    def __init__(
        self, architecture: Architecture, given: int, *, bias: bool, has_norm: bool = True
    ) -> None:
        super().__init__(given, architecture.hidden_size, bias)
        self.LayerNorm = new_norm(architecture) if has_norm else None


class GatedFeedForward(nn.Module):
    """Products and norm of a gated feed-forward; the activation is on the first half.

    Args:
        architecture: The shape.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        hidden, units = architecture.hidden_size, architecture.intermediate_size
        self.gated_layers = nn.Linear(hidden, 2 * units, bias=architecture.units_bias)
        self.wo = nn.Linear(units, hidden, bias=architecture.out_bias)
        self.layernorm = new_norm(architecture)


class Pooler(nn.Module):
    """The head up to its last product.

    Args:
        architecture: The shape.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        head, hidden = architecture.head, architecture.hidden_size
        self.dense = nn.Linear(hidden, hidden, bias=head.dense_bias)
        self.LayerNorm = (
            nn.LayerNorm(hidden, eps=head.norm_eps, bias=head.norm_bias) if head.norm else None
        )
        self._activation = ACTIVATIONS[head.activation]

    def forward(self, pooled: Tensor) -> Tensor:
        """Compute the classifier's input, in float32."""
        rows = self._activation(product(self.dense, pooled.float()))
        return rows if self.LayerNorm is None else normed(self.LayerNorm, rows)
