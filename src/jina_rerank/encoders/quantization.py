"""Quantization of matrices to 8-bit integers with one scale a row: half the size of bf16.

The weights of a quantized file are converted to the compute dtype when they are read. Products in
8 bits are computed by `int8` and `onnx`, which round activations in the same way.
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
    """Quantize to the nearest 8-bit integers, scaled so that each row's largest magnitude is 127.

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
    """Compute the matrix in `dtype`; the inverse of `quantize_rows` up to rounding."""
    return (integers.float() * scale[:, None]).to(dtype)


def quantize_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantize every matrix of a state dict; vectors stay as they are."""
    stored: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.ndim == 2:
            stored[name], stored[name + SCALE_SUFFIX] = quantize_rows(tensor)
        else:
            stored[name] = tensor
    return stored
