"""Families of checkpoints: from config.json and tensors' names to an `Architecture`.

A new family is a file here with a `FAMILY`, and an entry in `FAMILIES`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ModelLoadError
from ..architecture import Architecture
from ..config_file import ConfigFile
from ..files import CheckpointFiles
from . import bert, jinabert, modernbert, xlm_roberta
from .family import Family, Source

__all__ = ["FAMILIES", "Checkpoint", "Family", "Source", "read_checkpoint"]

FAMILIES: tuple[Family, ...] = (
    jinabert.FAMILY,
    bert.FAMILY,
    xlm_roberta.FAMILY,
    modernbert.FAMILY,
)
"""Asked in this order: JinaBERT's checkpoints call themselves BERT too."""

MOST_TOKENS = 2**20
"""Tokenizers state numbers above this, 10^30 for instance, where they know no limit."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that can be computed exactly.

    Attributes:
        files: Where it is.
        family: Its family.
        architecture: Its shape.
        quantization: How its matrices are stored: `"int8_rows"`, or None as they are.
    """

    files: CheckpointFiles
    family: Family
    architecture: Architecture
    quantization: str | None = None


def read_checkpoint(files: CheckpointFiles) -> Checkpoint:
    """Read what a checkpoint is from its configuration, without its weights.

    Args:
        files: Where it is.

    Raises:
        ModelLoadError: Its family is not known, or it cannot be computed exactly. The message
            names the field, and what would run it.
    """
    config = ConfigFile(files.config)
    for family in FAMILIES:
        if family.reads(config):
            architecture = family.architecture(config, _tokenizer_length(files))
            quantization = config.choice("quantization", None, [None, "int8_rows"])
            return Checkpoint(files, family, architecture, quantization)
    known = ", ".join(family.name for family in FAMILIES)
    kind = config.values.get("model_type")
    raise ModelLoadError(
        f"{files.config}: not a reranker of a family that runs natively ({known}): model_type is "
        f"{kind!r}. sentence-transformers may run it: Reranker(CrossEncoderScorer(model))."
    )


def _tokenizer_length(files: CheckpointFiles) -> int | None:
    if files.tokenizer_config is None:
        return None
    length = ConfigFile(files.tokenizer_config).values.get("model_max_length")
    is_number = isinstance(length, int | float) and not isinstance(length, bool)
    return int(length) if is_number and 0 < length < MOST_TOKENS else None  # type: ignore[operator,call-overload]
