"""Where to compute, and in which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

from ..errors import ConfigurationError

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16"]
"""bfloat16 keeps float32's range; float16 is not offered, since these models overflow it."""


def check_dtype(dtype: Dtype) -> Dtype:
    """The dtype, if it is one of the three.

    Raises:
        ConfigurationError: It is not.
    """
    if dtype not in get_args(Dtype):
        raise ConfigurationError(f"dtype must be one of {get_args(Dtype)}, not {dtype!r}")
    return dtype


def check_device(device: str) -> str:
    """The device's name, if it is a string; whether torch knows it shows at load.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(device, str):
        raise ConfigurationError(f"device must be a string, not {type(device).__name__}")
    return device


def choose_device(device: str) -> str:
    """The device that `"auto"` stands for, or the one named, if torch knows it.

    Apple's GPU is used only if named: torch's support for it leaks and aborts under load.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ConfigurationError(f"device {device!r} cannot be used: {error}") from error


def choose_dtype(dtype: Dtype, device: str) -> torch.dtype:
    """Torch's dtype for ours; `"auto"` is the fastest that keeps the ranking."""
    import torch

    if dtype == "auto":
        dtype = "bfloat16" if _computes_bfloat16(device) else "float32"
    return torch.float32 if dtype == "float32" else torch.bfloat16


def _computes_bfloat16(device: str) -> bool:
    """Tell whether bfloat16 is faster here, and not emulated.

    On a CPU with AMX, or an AMD with AVX-512 BF16. Intel's AVX-512 BF16 alone is not enough: it
    was slower than float32. Both are measured in docs/performance.md.
    """
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    # Older versions of torch cannot say who made the processor.
    features: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    made_by_amd = str(features.get("cpu_name", "")).startswith("AMD")
    # Torch has no public question for this; this one has been stable since 2.4.
    amx = bool(torch.cpu._is_amx_tile_supported())
    return amx or (made_by_amd and bool(features.get("avx512_bf16", False)))
