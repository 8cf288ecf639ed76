"""Choice of the device and the dtype of a computation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from ..errors import ConfigurationError

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16", "int8"]
"""bfloat16 keeps float32's range; float16 is not offered, since these models overflow it. int8
computes the large matrix products in 8-bit integers, on a CPU, and the rest in float32."""


def check_dtype(dtype: Dtype) -> Dtype:
    """Check that a dtype is one of `Dtype`, and return it.

    Raises:
        ConfigurationError: It is not.
    """
    if dtype not in get_args(Dtype):
        raise ConfigurationError(f"dtype must be one of {get_args(Dtype)}, not {dtype!r}")
    return dtype


def check_device(device: str) -> str:
    """Check that a device's name is a string, and return it; torch checks the name at load.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(device, str):
        raise ConfigurationError(f"device must be a string, not {type(device).__name__}")
    return device


def choose_device(device: str) -> str:
    """Choose the device that `"auto"` stands for, or check that torch has the named device.

    Apple's GPU is used only if named: torch's support for it leaks and aborts under load.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=device).device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ConfigurationError(f"device {device!r} cannot be used: {error}") from error


def check_int8(device: str) -> None:
    """Check that products of 8-bit integers can be computed.

    Raises:
        ConfigurationError: The device is no CPU, the processor has no VNNI, or torch no kernel.
    """
    from ..encoders.int8 import can_multiply_int8

    if device != "cpu":
        raise ConfigurationError(
            f"dtype 'int8' is computed on a CPU only, not on {device}; use dtype='auto'"
        )
    if not can_multiply_int8():
        raise ConfigurationError(
            "dtype 'int8' needs a processor with VNNI, and torch's kernel for it, which this "
            "machine has not; use dtype='auto'"
        )


def refuse_int8(dtype: Dtype) -> None:
    """Refuse `"int8"` where sentence-transformers computes.

    Raises:
        ConfigurationError: The dtype is `"int8"`.
    """
    if dtype == "int8":
        raise ConfigurationError(
            "dtype 'int8' is the native engine's and not sentence-transformers'; use dtype='auto', "
            "or name a reranker without cross-encoder:"
        )


def choose_dtype(dtype: Dtype, device: str) -> torch.dtype:
    """Choose torch's dtype of the weights; `"auto"` is the fastest that keeps the ranking.

    Args:
        dtype: A dtype of `Dtype`. Weights for `"int8"` are made from float32.
        device: A device's name from `choose_device`.
    """
    import torch

    if dtype == "auto":
        dtype = "bfloat16" if _computes_bfloat16(device) else "float32"
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def _computes_bfloat16(device: str) -> bool:
    """Tell whether bfloat16 is faster here, and not emulated."""
    import torch

    from ..encoders.processor import has_fast_bfloat16

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and has_fast_bfloat16()
