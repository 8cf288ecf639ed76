"""A student that is initialized from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from ...encoders import EncoderModel, JinaBert
from ...encoders.checkpoint import save_like
from ...encoders.families import Checkpoint, read_checkpoint, read_tokenizer
from ...encoders.families.jinabert import FAMILY as JINABERT
from ...encoders.tokenizer import open_tokenizer
from ...scorers.local import find_model
from ...spec import checkpoint_of
from ..settings import Seed, naming
from .student import StudentSettings, room_of


class CheckpointStudent(StudentSettings):
    """A reranker of any native family, to be trained further. It is saved in its own format.

    Attributes:
        checkpoint: Folder or hub id of the reranker.
        seed: Not used: nothing in a student from a checkpoint is random.
    """

    checkpoint: str
    seed: Seed = 0

    def check(self) -> int:
        """See `Student`."""
        _, tokenizer = self.build(())
        return room_of(self._checkpoint().architecture.max_length, tokenizer)

    def build(self, _examples: Sequence[tuple[str, str]]) -> tuple[EncoderModel, Tokenizer]:
        """See `Student`."""
        with naming("student.checkpoint"):
            checkpoint = self._checkpoint()
            read_tokenizer(checkpoint)
            kind = JinaBert if checkpoint.family is JINABERT else EncoderModel
            model = kind.from_pretrained(checkpoint.files.config.parent)
            tokenizer = checkpoint.files.tokenizer
            assert tokenizer is not None  # `find_model` asks for it
        return model, open_tokenizer(tokenizer)

    def save(self, model: EncoderModel, tokenizer: Tokenizer, folder: Path) -> None:
        """See `Student`. Other families than JinaBERT keep all files but the weights."""
        checkpoint = self._checkpoint()
        if checkpoint.family is JINABERT:
            super().save(model, tokenizer, folder)
        else:
            save_like(checkpoint, model, folder)

    def _files(self) -> list[Path]:
        files = self._checkpoint().files
        modules = (module.config for module in files.modules)
        beside = (files.tokenizer_config, files.prompts, files.inputs)
        others = (files.config, files.tokenizer, *beside, *modules)
        weights = [path for _, path in files.tensor_files()]
        return [*weights, *(path for path in others if path is not None)]

    def _checkpoint(self) -> Checkpoint:
        return read_checkpoint(find_model(checkpoint_of(self.checkpoint)))
