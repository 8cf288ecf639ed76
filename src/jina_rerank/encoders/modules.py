"""Products and norms of torch's modules that take the dtype of their input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .architecture import Architecture


def product(linear: nn.Linear, x: Tensor) -> Tensor:
    """Apply a linear layer in the dtype of its input, whatever the dtype of its weights."""
    bias = None if linear.bias is None else linear.bias.to(x.dtype)
    return F.linear(x, linear.weight.to(x.dtype), bias)


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Apply a layer norm in the dtype of its input."""
    bias = None if norm.bias is None else norm.bias.to(x.dtype)
    return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), bias, norm.eps)


def new_norm(architecture: Architecture) -> nn.LayerNorm:
    """Make a layer norm of the model."""
    return nn.LayerNorm(
        architecture.hidden_size, eps=architecture.layer_norm_eps, bias=architecture.norm_bias
    )
