"""Reading a checkpoint's tensors, and refusing those that are not exactly this model."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelLoadError
from .config import Quantization
from .files import CheckpointFiles
from .quantization import SCALE_SUFFIX, dequantize_rows

_BUFFERS = frozenset(
    f"bert.{name}"
    for name in ("embeddings.position_ids", "embeddings.token_type_ids", "encoder.alibi")
)
"""Buffers of the original that older files hold; they are no weights."""


def load_weights(
    files: CheckpointFiles,
    expected: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
    quantization: Quantization | None = None,
) -> dict[str, Tensor]:
    """Every weight of the model, checked, in `dtype`.

    Pickled files are read with `weights_only`, so nothing in them is ever executed.

    Args:
        files: Where they are.
        expected: The name and shape of every tensor of the model.
        dtype: The dtype to return them in.
        quantization: How the matrices are stored, from the configuration.

    Raises:
        ModelLoadError: A tensor is missing, left over, of the wrong shape or not finite. The
            message names the file and the tensor.
    """
    tensors: dict[str, Tensor] = {}
    origin: dict[str, Path] = {}
    for path in files.weights:
        for name, tensor in _read(path).items():
            if name not in _BUFFERS:
                tensors[name] = tensor
                origin[name] = path
    where = files.weights[0] if len(files.weights) == 1 else files.weights[0].parent
    if quantization is not None:
        tensors = _dequantized(tensors, origin, dtype)
    if missing := sorted(expected.keys() - tensors.keys()):
        raise ModelLoadError(f"{where}: lacks {_names(missing)}; not a JinaBERT reranker")
    if extra := sorted(tensors.keys() - expected.keys()):
        raise ModelLoadError(
            f"{origin[extra[0]]}: has {_names(extra)}, which a JinaBERT reranker has not"
        )
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected[name]:
            raise ModelLoadError(
                f"{origin[name]}: {name} has shape {tuple(tensor.shape)}, "
                f"but {files.config.name} says {expected[name]}"
            )
        if not _all_finite(tensor):
            raise ModelLoadError(f"{origin[name]}: {name} holds NaN or infinity")
    return {name: tensor.to(dtype) for name, tensor in tensors.items()}


def _all_finite(tensor: Tensor) -> bool:
    """One pass over the memory where all is well: a sum with NaN or infinity in it is no number.

    A sum of finite numbers can overflow too; only then each is looked at.
    """
    return bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(tensor.isfinite().all())


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelLoadError(f"{path}: cannot be read: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ModelLoadError(f"{path}: is not a dictionary of tensors")
    return state


def _dequantized(
    tensors: Mapping[str, Tensor], origin: Mapping[str, Path], dtype: torch.dtype
) -> dict[str, Tensor]:
    whole = {name: t for name, t in tensors.items() if not name.endswith(SCALE_SUFFIX)}
    for name, tensor in whole.items():
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + SCALE_SUFFIX)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ModelLoadError(f"{origin[name]}: {name} has no scale for each of its rows")
            whole[name] = dequantize_rows(tensor, scale, dtype)
    return whole


def _names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
