"""Matrix products on a CPU, fused with the operation that follows, by oneDNN's kernels.

torch has these kernels for its own compiler and keeps their names private: `can_fuse` tests them,
and where they are missing or wrong, torch's modules are used.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .architecture import Activation

ROWS_PER_BLOCK = 1024
"""Tokens that go through the second half of a layer together."""


class Product(Protocol):
    """A matrix product, alone or with the operation that follows it.

    Each method takes `x` of shape (rows, in) and returns shape (rows, out).
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the product alone."""
        ...

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """Compute the product's activation."""
        ...

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """Compute the product plus a matrix of its shape."""
        ...

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Compute the product times a matrix of its shape."""
        ...


class Products(Protocol):
    """Lays out the weights of a model's products."""

    def product(self, weight: Tensor, bias: Tensor | None) -> Product:
        """Lay out a product.

        Args:
            weight: Shape (out, in).
            bias: Shape (out,), or None.
        """
        ...

    def projections(
        self, weight: Tensor, bias: Tensor | None, heads: int
    ) -> Callable[[Tensor], Tensor]:
        """Lay out the product that makes all queries, then all keys, then all values.

        Args:
            weight: Shape (3 * heads * head size, in).
            bias: Shape (3 * heads * head size,), or None.
            heads: Attention heads.
        """
        ...


class FusedProducts:
    """Products in the dtype of their weights; see `Products`."""

    def product(self, weight: Tensor, bias: Tensor | None) -> FusedProduct:
        """Lay out a product."""
        return FusedProduct(weight, bias)

    def projections(self, weight: Tensor, bias: Tensor | None, heads: int) -> FusedProduct:
        """Lay out the product that makes queries, keys and values."""
        return FusedProduct(weight, bias)


class FusedProduct:
    """A matrix product with the operation that follows it, in one kernel.

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
    """Tell whether torch has the kernels for a dtype on this processor, and they are correct."""
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
