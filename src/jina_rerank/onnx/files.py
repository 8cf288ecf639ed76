"""The files of an exported folder, and the embedded model's weights without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..encoders.files import (
    CONFIG,
    SAFETENSORS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    CheckpointFiles,
)
from ..encoders.quantization import SCALE_SUFFIX
from ..errors import ModelLoadError, ModelNotFoundError

if TYPE_CHECKING:
    from .nodes import Float32, Int8Rows

IDS, MASK, TYPES = INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "logits"

MODEL = "model.onnx"
EXTERNAL_DATA = "model.onnx_data"
"""The file for the weights of a model that is too large for one file."""


@dataclass(frozen=True, slots=True)
class OnnxFiles:
    """The files of one exported model: model.onnx, config.json, tokenizer.json.

    tokenizer_config.json beside them states the longest pair; a folder may lack it.
    """

    model: Path
    config: Path
    tokenizer: Path
    tokenizer_config: Path

    @classmethod
    def in_folder(cls, folder: Path) -> OnnxFiles:
        """Name the files in a folder, whether or not they exist."""
        names = (MODEL, CONFIG, TOKENIZER, TOKENIZER_CONFIG)
        return cls(*(folder / name for name in names))

    @property
    def checkpoint(self) -> CheckpointFiles:
        """The same files in the form that `read_checkpoint` takes."""
        options = self.tokenizer_config if self.tokenizer_config.is_file() else None
        return CheckpointFiles(self.config, (), self.tokenizer, options)

    def check(self) -> None:
        """Check that all files that are needed exist.

        Raises:
            ModelNotFoundError: There is no such folder.
            ModelLoadError: A file is missing; the message says how to make it.
        """
        folder = self.model.parent
        if not folder.is_dir():
            raise ModelNotFoundError.no_folder(f"onnx:{folder}")
        for path in (self.model, self.config, self.tokenizer):
            if not path.is_file():
                raise ModelLoadError(
                    f"{folder}: has no {path.name}; a folder with all that is needed is made by: "
                    "jina-rerank export MODEL FOLDER"
                )


def read_int8_rows(folder: Path) -> dict[str, Float32 | Int8Rows]:
    """Read a checkpoint that is stored as 8-bit rows, in the form that `build_model` takes.

    The embeddings stay integers, which changes nothing but the size; all other weights are float32.

    Args:
        folder: The folder that holds model.safetensors.
    """
    from safetensors.numpy import load_file

    from .nodes import Int8Rows

    stored = load_file(folder / SAFETENSORS)
    weights: dict[str, Float32 | Int8Rows] = {}
    for name, tensor in stored.items():
        if name + SCALE_SUFFIX in stored:
            rows = Int8Rows(tensor, stored[name + SCALE_SUFFIX])
            weights[name] = rows if ".embeddings." in name else rows.dequantized()
        elif not name.endswith(SCALE_SUFFIX):
            weights[name] = tensor
    return weights
