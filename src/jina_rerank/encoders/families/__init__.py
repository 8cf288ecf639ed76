"""Families of checkpoints: from config.json and tensors' names to an `Architecture`.

A new family is a file here with a `FAMILY`, and an entry in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import ModelLoadError
from ..architecture import Architecture
from ..config_file import ConfigFile
from ..files import CheckpointFiles
from ..tokenizer import PairTokenizer
from . import bert, jinabert, modernbert, module_list, xlm_roberta
from .family import Description, Extras, Family, Source
from .settings import check_text_settings, has_token_types, stated_length

__all__ = [
    "FAMILIES",
    "Checkpoint",
    "Description",
    "Extras",
    "Family",
    "Source",
    "check_head",
    "read_checkpoint",
    "read_tokenizer",
]

FAMILIES: tuple[Family, ...] = (
    jinabert.FAMILY,
    bert.FAMILY,
    xlm_roberta.FAMILY,
    module_list.FAMILY,
    modernbert.FAMILY,
)
"""Families in the order in which they are tried: JinaBERT's checkpoints have BERT's model type too,
and an encoder with a module list has ModernBERT's."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that can be computed exactly.

    Attributes:
        files: Its files.
        family: Its family.
        architecture: Its shape.
        source: Finds a parameter in the files by its name in `EncoderModel`.
        quantization: Storage of its matrices: `"int8_rows"`, or None if they are not quantized.
    """

    files: CheckpointFiles
    family: Family
    architecture: Architecture
    source: Callable[[str], Source]
    quantization: str | None = None


def read_checkpoint(files: CheckpointFiles) -> Checkpoint:
    """Read the description of a checkpoint from its configuration, without its weights.

    Args:
        files: The checkpoint's files.

    Raises:
        ModelLoadError: Its family is not known, or it cannot be computed exactly. The message
            names the field, and what would run it.
    """
    config = ConfigFile(files.config)
    check_text_settings(files)
    extras = Extras(stated_length(files), files.modules)
    for family in FAMILIES:
        if family.reads(config, extras):
            found = family.describe(config, extras)
            quantization = config.only("quantization", None, [None, "int8_rows"])
            return Checkpoint(files, family, found.architecture, found.source, quantization)
    known = ", ".join(family.name for family in FAMILIES)
    kind = config.values.get("model_type")
    raise config.not_native(
        f"not a reranker of a family that runs natively ({known}): model_type is {kind!r}"
    )


def check_head(checkpoint: Checkpoint) -> None:
    """Check that the weights have a reranker's head, without reading them.

    An embedding model's config.json looks like a reranker's. Only the headers of safetensors files
    are read; a pickled file is taken on trust.

    Raises:
        ModelLoadError: There is no head, or a file is no safetensors file.
    """
    head = checkpoint.source("classifier.weight").name
    names = checkpoint.files.tensor_names()
    if names is not None and head not in names:
        where = checkpoint.files.weights[0]
        raise ModelLoadError(f"{where}: lacks {head}; not a {checkpoint.family.name} reranker")


def read_tokenizer(checkpoint: Checkpoint) -> PairTokenizer:
    """Read a checkpoint's tokenizer, and check that its embeddings have a row for every token.

    Args:
        checkpoint: The checkpoint; its files include tokenizer.json.

    Raises:
        ModelLoadError: The tokenizer cannot be read, or a row is missing.
    """
    files = checkpoint.files
    assert files.tokenizer is not None
    tokenizer = PairTokenizer.from_file(files.tokenizer, types=has_token_types(files))
    try:
        tokenizer.check_rows(checkpoint.architecture, files.tokenizer)
    except ValueError as error:
        raise ModelLoadError(f"{files.config}: {error}") from None
    return tokenizer
