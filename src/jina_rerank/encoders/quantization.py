"""Matrices as 8-bit integers, one scale a row: half the size of bf16.

A file that is stored so becomes the compute dtype again when it is read. What is computed in 8 bits
is the business of `int8` and of `onnx`, which round activations in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGEST = 127
"""Magnitude of the largest quantized number."""

ZERO_POINT = 128
"""Added to quantized activations: processors multiply unsigned numbers by signed ones."""

SMALLEST = 1e-30
"""Rows with no larger magnitude become zeros: their scale would have no inverse in float32."""

SCALE_SUFFIX = ".scale"
"""Added to a quantized tensor's name to name its scales."""


def quantize_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest 8-bit integers, scaled so that each row's largest magnitude is 127.

    Args:
        matrix: Shape (rows, columns), any floating dtype.

    Returns:
        The integers, shape (rows, columns), int8, and the scales, shape (rows,), float32.
    """
    import torch

    matrix = matrix.float()
    scale = matrix.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
    return (matrix / scale[:, None]).round().to(torch.int8), scale


def dequantize_rows(integers: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix again, in `dtype`; the inverse of `quantize_rows` up to rounding."""
    return (integers.float() * scale[:, None]).to(dtype)


def quantize_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every matrix quantized and every vector as it was."""
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim == 2:
            stored[name], stored[name + SCALE_SUFFIX] = quantize_rows(tensor)
        else:
            stored[name] = tensor
    return stored
