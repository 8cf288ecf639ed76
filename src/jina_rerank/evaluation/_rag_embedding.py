"""An embedding model of sentence-transformers as LlamaIndex wants it."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from .encoder import load_encoder
from .rag import EXTRA


class SentenceTransformerEmbedding(BaseEmbedding):
    """An embedding model in this process. Remote code is never run.

    Queries and passages are embedded with the prompts that the model's own configuration has for
    them, where it has any.
    """

    _encoder: Any = PrivateAttr()

    @classmethod
    def load(cls, model: str) -> SentenceTransformerEmbedding:
        """Load it.

        Args:
            model: A folder or a hub id.

        Raises:
            ConfigurationError: sentence-transformers is missing.
            ModelLoadError: It cannot be loaded.
        """
        embedding = cls(model_name=model)
        embedding._encoder = load_encoder(model, extra=EXTRA)
        return embedding

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's events."""
        return "SentenceTransformerEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._encoder.encode_query(
            query, normalize_embeddings=True, show_progress_bar=False
        ).tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._encoder.encode_document(
            texts, normalize_embeddings=True, show_progress_bar=False
        ).tolist()
        return vectors
