"""Embedding models of sentence-transformers, loaded and asked in one place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._quiet import quiet
from .._sentence_transformers import load_model
from ..embedded import find_other_source
from ..errors import ScoringError
from ..scorers.device import choose_device
from ._extra import import_extra

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

INSTALL_ENCODERS = 'pip install "jina-rerank[cross-encoder]"'

KEPT = 100_000
"""The number of vectors that are kept: 150 MB of them at 384 dimensions."""


def load_encoder(
    model: str, *, dtype: torch.dtype | None = None, install: str = INSTALL_ENCODERS
) -> Any:  # noqa: ANN401 - a SentenceTransformer
    """The model, on the GPU if there is one. Remote code is never run.

    Args:
        model: A folder or a hub id.
        dtype: What to compute in; None for what the checkpoint says.
        install: The command that brings what is missing.

    Raises:
        ConfigurationError: sentence-transformers is missing, or the name is blank or the embedded
            model's.
        ModelLoadError: The model cannot be loaded.
    """
    source = find_other_source(model)

    def load(name: str, offline: bool) -> Any:  # noqa: ANN401 - as above
        library = import_extra("sentence_transformers", install)
        with quiet():
            return library.SentenceTransformer(
                name,
                device=choose_device("auto"),
                trust_remote_code=False,
                local_files_only=offline,
                model_kwargs=None if dtype is None else {"dtype": dtype},
            )

    return load_model(load, source)


class Encoder:
    """An embedding model that reads a text once, as long as its vector is kept.

    Args:
        encoder: As `load_encoder` gives it.
        name: What errors call it.
        batch_size: How many texts are read at a time.
        kept: How many vectors are kept from one call to the next; the oldest go first.
    """

    def __init__(
        self,
        encoder: Any,  # noqa: ANN401 - a SentenceTransformer
        name: str,
        *,
        batch_size: int,
        kept: int = KEPT,
    ) -> None:
        self._encoder = encoder
        self._name = name
        self._batch_size = batch_size
        self._kept = kept
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """A vector of length 1 for each text.

        Raises:
            ScoringError: The model failed.
        """
        wanted = dict.fromkeys(texts)
        new = [text for text in wanted if text not in self._vectors]
        if new:
            try:
                vectors = self._encoder.encode(
                    new,
                    batch_size=self._batch_size,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                ).astype(np.float32)
            except (RuntimeError, ValueError, IndexError) as error:
                raise ScoringError(f"{self._name} failed on {len(new)} texts: {error}") from error
            self._vectors.update(zip(new, vectors, strict=True))
        found = {text: self._vectors[text] for text in wanted}
        for text in list(self._vectors)[: max(0, len(self._vectors) - self._kept)]:
            del self._vectors[text]
        return found
