"""Export of an encoder reranker to a folder with all that an ONNX runtime needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .._installed import missing
from ..encoders.families.jinabert import MODEL_TYPE
from ..errors import InputError
from .files import EXTERNAL_DATA, OnnxFiles

if TYPE_CHECKING:
    from torch import Tensor

    from ..encoders.architecture import Architecture
    from .nodes import Float32, Int8Rows, Weights

LARGEST_FILE = 2**31 - 2**20
"""Most bytes of weights in model.onnx; more go into a second file: protobuf is limited to 2 GiB."""


def export_onnx(
    model: str | PathLike[str] | None, folder: str | PathLike[str], *, int8: bool = False
) -> Path:
    """Write model.onnx, config.json and tokenizer.json.

    The graph has opset 17 and standard operators only; its inputs and output are described at
    `jina_rerank.onnx.graph.build_model`. Weights of more than 2 GB go into model.onnx_data.

    Args:
        model: A folder or a hub id; None or `jina-rerank-mini` for the embedded model.
        folder: The folder to write; created if it is missing. It must be empty.
        int8: Store matrices as 8-bit integers with one scale a row, a quarter of the size, and
            compute the large products in integers, as `dtype="int8"` does: see `Int8Products`.
            Logits then change by some hundredths.

    Returns:
        The path of model.onnx.

    Raises:
        InputError: The folder is not empty, or cannot be written.
        ModelLoadError: The model cannot be read.
        ConfigurationError: A library is missing, or the name is no checkpoint's.
    """
    try:
        import onnx

        from ..encoders import EncoderModel
        from ..scorers.local import find_model
        from ..spec import checkpoint_of
        from .graph import build_model
    except ImportError as error:
        raise missing(error.name, "an export", "export") from error
    source = find_model(checkpoint_of(model))
    assert source.tokenizer is not None
    target = OnnxFiles.in_folder(_empty_folder(Path(folder)))
    encoder = EncoderModel.from_pretrained(source.config.parent)
    architecture = encoder.architecture
    state = encoder.state_dict()
    weights: Weights = (
        _in_8_bits(architecture, state)
        if int8
        else {name: tensor.numpy() for name, tensor in state.items()}
    )
    proto = build_model(architecture, weights)
    config = json.loads(source.config.read_text(encoding="utf-8-sig"))
    config.pop("quantization", None)  # it describes the storage of model.safetensors
    if config.get("model_type") == MODEL_TYPE:
        config["model_type"] = "bert"  # as in Jina's own; transformers.js refuses unknown ones
    given = source.tokenizer_config
    options = {} if given is None else json.loads(given.read_text(encoding="utf-8-sig"))
    # Other files of the original may have lowered it.
    options["model_max_length"] = architecture.max_length
    try:
        target.config.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        shutil.copyfile(source.tokenizer, target.tokenizer)
        target.tokenizer_config.write_text(json.dumps(options, indent=1) + "\n", encoding="utf-8")
        external = sum(len(tensor.raw_data) for tensor in proto.graph.initializer) > LARGEST_FILE
        onnx.save_model(proto, target.model, save_as_external_data=external, location=EXTERNAL_DATA)
    except OSError as error:
        raise InputError("folder", f"{folder} cannot be written: {error.strerror}") from error
    return target.model


def _empty_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError("folder", f"{folder} is not empty; name another")
    except OSError as error:
        raise InputError("folder", f"{folder} cannot be made: {error.strerror}") from error
    return folder


def _in_8_bits(architecture: Architecture, state: Mapping[str, Tensor]) -> Weights:
    """Quantize every matrix; products that are fast or need precision are computed in float32."""
    from ..encoders.int8 import wide_heads
    from ..encoders.quantization import quantize_rows
    from .nodes import Int8Rows

    exact = ["bert.pooler.", "classifier."]
    if architecture.head.pooling != "mean":
        exact.append(f"bert.encoder.layer.{architecture.num_hidden_layers - 1}.")
    for number in range(architecture.num_hidden_layers):
        query, key = (
            f"bert.encoder.layer.{number}.attention.self.{part}.weight" for part in ("query", "key")
        )
        if bool(wide_heads(state[query], state[key], architecture.num_attention_heads).any()):
            exact += [query, key]
    weights: dict[str, Float32 | Int8Rows] = {}
    for name, tensor in state.items():
        if tensor.ndim == 2:
            integers, scale = quantize_rows(tensor)
            own = name.startswith(tuple(exact))
            weights[name] = Int8Rows(integers.numpy(), scale.numpy(), own)
        else:
            weights[name] = tensor.numpy()
    return weights
