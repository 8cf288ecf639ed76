"""Reading of a checkpoint's tensors, which must be exactly the model's; writing of checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import ModelLoadError
from .families import Checkpoint, Source
from .files import CONFIG, PICKLE_INDEX, SAFETENSORS, SHARD_INDEX, TOKENIZER, TOKENIZER_CONFIG
from .model import EncoderModel
from .quantization import SCALE_SUFFIX, dequantize_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from .jinabert import JinaBert

LEGACY_NORM = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
"""Names of a layer norm's parameters in checkpoints that were converted from TensorFlow."""


def load_state(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Tensor]:
    """Load and check every weight of `EncoderModel`, in `dtype`.

    Pickled files are read with `weights_only`, so nothing in them is ever executed.

    Args:
        checkpoint: The checkpoint's description and files.
        dtype: Dtype of the returned weights.

    Raises:
        ModelLoadError: A tensor is missing, left over, of the wrong shape or dtype, or not finite.
            The message names the file and the tensor.
    """
    with torch.device("meta"):
        shapes = EncoderModel(checkpoint.architecture).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in shapes.items()}
    files, family = checkpoint.files, checkpoint.family
    tensors, origin = _read_all(checkpoint)
    where = files.weights[0] if len(files.weights) == 1 else files.weights[0].parent
    if checkpoint.quantization is not None:
        tensors = _dequantized(tensors, origin, dtype)
    sources = {name: _stored(checkpoint.source(name), tensors) for name in expected}
    named = {source.name for source in sources.values()}
    if missing := sorted(named - tensors.keys()):
        raise ModelLoadError(f"{where}: lacks {_names(missing)}; not a {family.name} reranker")
    if extra := sorted(tensors.keys() - named):
        raise ModelLoadError(
            f"{origin[extra[0]]}: has {_names(extra)}, which a {family.name} reranker has not"
        )
    for name, source in sources.items():
        found, wanted = tuple(tensors[source.name].shape), expected[name]
        if found != (whole := (wanted[0] * source.parts, *wanted[1:])):
            raise ModelLoadError(
                f"{origin[source.name]}: {source.name} has shape {found}, "
                f"but {files.config.name} says {whole}"
            )
    for name in sorted(named):
        if not tensors[name].is_floating_point():
            kind = str(tensors[name].dtype).removeprefix("torch.")
            raise ModelLoadError(f"{origin[name]}: {name} is of {kind}, not floating-point")
        if not _all_finite(tensors[name]):
            raise ModelLoadError(f"{origin[name]}: {name} holds NaN or infinity")
    return {
        name: torch.chunk(tensors[source.name], source.parts)[source.part].to(dtype)
        for name, source in sources.items()
    }


def _read_all(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Path]]:
    """Read the tensors of all files that a logit depends on, with the file of each."""
    tensors: dict[str, Tensor] = {}
    origin: dict[str, Path] = {}
    for prefix, path in checkpoint.files.tensor_files():
        for name, tensor in read_tensors(path).items():
            if not name.startswith(checkpoint.family.unused):
                tensors[prefix + name] = tensor
                origin[prefix + name] = path
    return tensors, origin


def _stored(source: Source, tensors: Mapping[str, Tensor]) -> Source:
    """Return the source with the legacy name of a norm, if the file has that name."""
    for name, legacy in LEGACY_NORM.items():
        old = source.name.removesuffix(name) + legacy
        if source.name not in tensors and source.name.endswith(name) and old in tensors:
            return replace(source, name=old)
    return source


def save_checkpoint(model: JinaBert, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a folder that `LocalScorer` and `JinaBert.from_pretrained` load.

    Args:
        model: The model, whose weights are written in their current dtype.
        tokenizer: The tokenizer, written as it is; `PairTokenizer` needs a template for pairs in
            it.
        folder: The folder; created if it is missing. `config.json`, `model.safetensors`,
            `tokenizer.json` and `tokenizer_config.json` in it are overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # safetensors stores neither views nor tensors of a device or a graph.
    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    write_weights(state, folder / SAFETENSORS)
    config = json.dumps(replace(model.config, quantization=None).to_dict(), indent=1)
    (folder / CONFIG).write_text(config + "\n", encoding="utf-8")
    save_tokenizer(tokenizer, model.config.max_position_embeddings, folder)


def save_like(checkpoint: Checkpoint, model: EncoderModel, folder: Path) -> None:
    """Write a folder like a checkpoint's, with the weights of another model of its shape.

    Tensors have the names that the checkpoint's family gives them, so a program that reads the
    original reads the copy, too. All JSON files of the original are copied.

    Args:
        checkpoint: The original; its files must still be there.
        model: The model, whose weights are written in their current dtype.
        folder: The folder; created if it is missing. Files in it are overwritten.
    """
    parts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        source = checkpoint.source(name)
        parts.setdefault(source.name, {})[source.part] = tensor.detach().cpu()
    whole = {name: torch.cat([own[i] for i in sorted(own)]) for name, own in parts.items()}
    original = checkpoint.files.config.parent
    for module in checkpoint.files.modules:
        prefix = f"{module.folder}."
        own = {name: whole.pop(name) for name in list(whole) if name.startswith(prefix)}
        if module.folder and module.config is not None:
            _copy_json(module.config.parent, folder / module.folder)
        if module.folder and own:
            state = {name.removeprefix(prefix): tensor for name, tensor in own.items()}
            write_weights(state, folder / module.folder / SAFETENSORS)
    _copy_json(original, folder)
    write_weights(whole, folder / SAFETENSORS)


def _copy_json(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.json"):
        if path.name not in {SHARD_INDEX, PICKLE_INDEX}:
            shutil.copyfile(path, target / path.name)


def write_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a file that other users may read, unlike a file written by safetensors.

    The file replaces an older one; processes that have the older one mapped into memory keep it.
    """
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(save(dict(state), metadata={"format": "pt"}))
    new.replace(path)


def save_tokenizer(tokenizer: Tokenizer, max_length: int, folder: Path) -> None:
    """Write tokenizer.json, and the configuration with which transformers reads it as it is.

    Args:
        tokenizer: The tokenizer, written as it is.
        max_length: Longest pair in tokens.
        folder: An existing folder.
    """
    tokenizer.save(str(folder / TOKENIZER))
    options = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config = json.dumps({**options, **tokenizer_options(tokenizer, max_length)}, indent=1)
    (folder / TOKENIZER_CONFIG).write_text(config + "\n", encoding="utf-8")


def tokenizer_options(tokenizer: Tokenizer, max_length: int) -> dict[str, Any]:
    """List the settings that transformers' `PreTrainedTokenizerFast` needs beside tokenizer.json.

    Args:
        tokenizer: The tokenizer, with BERT's or RoBERTa's padding token, or none.
        max_length: Longest pair in tokens.
    """
    padding = [t for t in ("[PAD]", "<pad>") if tokenizer.token_to_id(t) is not None]
    return {
        "model_max_length": max_length,
        # Since transformers 5 token types are left out unless they are named here.
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "pad_token": padding[0] if padding else None,
    }


def _all_finite(tensor: Tensor) -> bool:
    """Tell whether all numbers are finite, in one pass over the memory if they are.

    A sum with NaN or infinity in it is not finite. A sum of finite numbers can overflow too; only
    then each number is checked.
    """
    return bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(tensor.isfinite().all())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of one file, by name, as they are stored.

    Args:
        path: A safetensors file; any other is read as a pickled state dict, with `weights_only`.

    Raises:
        ModelLoadError: The file cannot be read, or holds something else.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        except (OSError, SafetensorError) as error:
            raise ModelLoadError(f"{path}: cannot be read: {error}") from error
    state = read_pickle(path)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise ModelLoadError(f"{path}: is not a dictionary of tensors")
    return state


def read_pickle(path: Path, *, mapped: bool = False) -> Any:  # noqa: ANN401 - whatever was written
    """Read a file that `torch.save` has written, to the CPU; nothing in it is executed.

    Args:
        path: The file.
        mapped: True to map the file, so that tensors are read only when they are used.

    Raises:
        ModelLoadError: It cannot be read.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damaged bytes are instructions that fail in all ways
        raise ModelLoadError(f"{path}: cannot be read: {type(error).__name__}: {error}") from error


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
