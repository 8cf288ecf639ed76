"""Matrix products of 8-bit integers on a CPU, where they take half of bfloat16's time.

Weights are quantized by rows of their matrix, activations by tokens, each by its own largest
magnitude. So nothing is calibrated, a logit depends on no other pair, and a token with large
numbers, as [CLS] is in some models, takes no precision from others.

oneDNN's kernel is one that torch has for its own compiler: `can_multiply_int8` tries it out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .architecture import Activation
from .layer import ACTIVATIONS
from .products import FusedProduct
from .quantization import LARGEST, SMALLEST, ZERO_POINT, quantize_rows

logger = logging.getLogger(__name__)

WIDE_HEAD = 4.0
"""A head is wide where the norms of the weights of its queries and of its keys, multiplied, are so
many times the median of its layer. In all-MiniLM-L6-v2 no head has 1.7 times the median; the head
that the embedded model matches words with has 33 times."""

ROUNDING = 1.5 * 2**23 + ZERO_POINT
"""Added to a number of at most 127 in float32 it leaves the nearest integer plus the zero point in
the sum's lowest byte, since the float32 numbers between 2^23 and 2^24 are the integers."""


def quantize_activations(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row to 8 bits, scaled so that its largest magnitude is 127.

    Args:
        rows: Shape (rows, columns), float32.

    Returns:
        The integers with the zero point added, shape (rows, columns), uint8, and the scales,
        shape (rows, 1), float32.
    """
    largest = torch.maximum(rows.amax(dim=1, keepdim=True), -rows.amin(dim=1, keepdim=True))
    scales = largest.clamp_min(SMALLEST) / LARGEST
    # torch converts float32 to 8 bits one number at a time, but int32 many at once.
    rounded = rows.mul(scales.reciprocal()).add_(ROUNDING)
    return rounded.view(torch.int32).to(torch.int8).view(torch.uint8), scales


def wide_heads(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Find the heads whose scores differ by so much that 8 bits would lose too much of them.

    Args:
        query: Weights of the queries, shape (heads * head size, in).
        key: Weights of the keys, of the same shape.
        heads: Attention heads.

    Returns:
        Shape (heads,), bool; see `WIDE_HEAD`.
    """
    norms = [weight.view(heads, -1).norm(dim=1) for weight in (query, key)]
    scores: Tensor = norms[0] * norms[1]
    return scores.gt(WIDE_HEAD * scores.median())


class Int8Products:
    """Products of 8-bit integers; see `Products`.

    A head that matches single tokens has weights so large that its scores differ by hundreds, and
    a hundredth of these is too much: its queries and keys are computed in float32. Such heads are
    told by their weights alone: see `WIDE_HEAD`.
    """

    def product(self, weight: Tensor, bias: Tensor | None) -> Int8Product:
        """Lay out a product."""
        return Int8Product(weight, bias)

    def projections(
        self, weight: Tensor, bias: Tensor | None, heads: int
    ) -> Callable[[Tensor], Tensor]:
        """Lay out the product that makes queries, keys and values."""
        query, key, _ = weight.chunk(3)
        wide = wide_heads(query, key, heads)
        if not bool(wide.any()):
            return Int8Product(weight, bias)
        logger.info("queries and keys of %d of %d heads stay float32", int(wide.sum()), heads)
        rows = torch.stack([wide, wide, torch.zeros_like(wide)])
        rows = rows.flatten().repeat_interleave(len(weight) // (3 * heads))
        return _PartlyInt8(weight, bias, rows.nonzero().squeeze(1))


class Int8Product:
    """A matrix product of 8-bit integers, for activations in float32; see `Product`.

    Args:
        weight: Shape (out, in), float32. One that was stored in 8 bits, a scale a row, is
            computed with the same integers.
        bias: Shape (out,), or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        integers, self._scales = quantize_rows(weight)
        self._weight = torch.ops.onednn.qlinear_prepack(integers, None)
        self._zero_points = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the product alone."""
        product, scales = self._scaled_up(x)
        return self._biased(product.mul_(scales))

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """Compute the product's activation."""
        return ACTIVATIONS[activation](self(x))

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """Compute the product plus a matrix of its shape."""
        product, scales = self._scaled_up(x)
        return self._biased(torch.addcmul(other, product, scales, out=product))

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Compute the product times a matrix of its shape."""
        return self(x).mul_(other)

    def _biased(self, product: Tensor) -> Tensor:
        # Not by addcmul, which is four times as slow where a vector stands for all rows.
        return product if self._bias is None else product.add_(self._bias)

    def _scaled_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the product without the scales of the rows, and these."""
        integers, scales = quantize_activations(x)
        product: Tensor = torch.ops.onednn.qlinear_pointwise.default(
            integers, 1.0, ZERO_POINT,
            self._weight, self._scales, self._zero_points,
            None, 1.0, 0, torch.float32, "none", [], "none",
        )  # fmt: skip
        return product, scales


class _PartlyInt8:
    """A product of 8-bit integers, some outputs of which are computed in float32.

    Args:
        weight: Shape (out, in), float32.
        bias: Shape (out,), or None.
        wide: Numbers of the outputs that are computed in float32, int64.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, wide: Tensor) -> None:
        self._product = Int8Product(weight, bias)
        self._wide = wide
        self._exact = FusedProduct(weight[wide], None if bias is None else bias[wide])

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the product."""
        product = self._product(x)
        product[:, self._wide] = self._exact(x)
        return product


@cache
def can_multiply_int8() -> bool:
    """Tell whether this torch has the kernel, and this processor sums products up exactly.

    Processors without VNNI add pairs of products in 16 bits, where large ones overflow.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-LARGEST, LARGEST + 1, (64, 128), generator=generator).float()
    weight = torch.randint(-LARGEST, LARGEST + 1, (64, 128), generator=generator).float()
    weight[:32], x[:32] = LARGEST, LARGEST
    x[:, 0], weight[:, 0] = LARGEST, LARGEST  # so that all scales are 1
    try:
        product = Int8Product(weight)(x)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return torch.equal(product, F.linear(x.double(), weight.double()).float())
