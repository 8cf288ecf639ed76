"""An embedding model of sentence-transformers with LlamaIndex's interface."""

from __future__ import annotations

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from ..scorers.bi_encoder import BiEncoderScorer


class SentenceTransformerEmbedding(BaseEmbedding):
    """An embedding model in this process. Remote code is never run.

    Queries and passages are embedded with their prompts; see `BiEncoderScorer`.
    """

    _encoder: BiEncoderScorer = PrivateAttr()

    @classmethod
    def load(cls, model: str) -> SentenceTransformerEmbedding:
        """Load the model.

        Args:
            model: A folder or a hub id.

        Raises:
            ConfigurationError: sentence-transformers is missing.
            ModelLoadError: The model cannot be loaded.
        """
        embedding = cls(model_name=model)
        embedding._encoder = BiEncoderScorer(model)
        embedding._encoder.warm_up()
        return embedding

    @classmethod
    def class_name(cls) -> str:
        """The name in LlamaIndex's events."""
        return "SentenceTransformerEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        (vector,) = self._encoder.embed([query], is_query=True)
        return [float(one) for one in vector]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [[float(one) for one in vector] for vector in self._encoder.embed(texts)]
