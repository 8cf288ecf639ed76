"""A student that goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from ...encoders import JinaBert, PairTokenizer
from ...encoders.tokenizer import open_tokenizer
from ...scorers.local import find_model
from ...spec import checkpoint_of
from ..settings import Seed, naming
from .student import StudentSettings


class CheckpointStudent(StudentSettings):
    """A JinaBERT reranker, to be trained further.

    Attributes:
        checkpoint: Its folder or hub id.
        seed: Not used: nothing in a student from a checkpoint is random.
    """

    checkpoint: str
    seed: Seed = 0

    def check(self) -> None:
        """See `Student`."""
        self.build(())

    def build(self, _examples: Sequence[tuple[str, str]]) -> tuple[JinaBert, Tokenizer]:
        """See `Student`."""
        with naming("student.checkpoint"):
            files = find_model(checkpoint_of(self.checkpoint))
            assert files.tokenizer is not None
            PairTokenizer.from_file(files.tokenizer)
            model = JinaBert.from_pretrained(files.config.parent)
        return model, open_tokenizer(files.tokenizer)
