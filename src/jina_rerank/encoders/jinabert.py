"""JinaBERT as a module: the encoder that distillation trains and transformers wraps."""

from __future__ import annotations

from os import PathLike

import torch

from .checkpoint import load_state
from .families import read_checkpoint
from .families.jinabert import JinaBertConfig
from .files import find_checkpoint
from .model import EncoderModel


class JinaBert(EncoderModel):
    """A JinaBERT cross-encoder with one output: the logit of a pair.

    Built from a configuration it has random weights; `from_pretrained` reads a checkpoint.

    Args:
        config: The shape.
    """

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__(config.architecture())
        self.config = config

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | PathLike[str],
        *,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> JinaBert:
        """Read a JinaBERT checkpoint; see `EncoderModel.from_pretrained`.

        Raises:
            ModelLoadError: As there, and if it is of another family.
        """
        files = find_checkpoint(folder_or_hub_id, revision=revision, tokenizer=False)
        config = JinaBertConfig.from_file(files.config)
        with torch.device("meta"):
            model = cls(config)
        return model.take(load_state(read_checkpoint(files), dtype))
