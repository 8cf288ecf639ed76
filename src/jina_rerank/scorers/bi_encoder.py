"""`BiEncoderScorer`: query and document embedded separately, compared by cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from .embedding import EmbeddingScorer
from .prompts import Prompts
from .text_encoder import Encoder
from .weights import Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.model import BaseModel

    Vector: TypeAlias = NDArray[np.float32]


class BiEncoderScorer(EmbeddingScorer["Vector"]):
    """Scores with an embedding model of sentence-transformers; the score is the cosine.

    A document is embedded once for many queries, as in an index. A model's own prompts are those of
    its config_sentence_transformers.json, or else those that e5 and bge are known to need. Remote
    code is never run.

    Args:
        model: A folder or a hub id.
        query_prompt: Text before each query; None is the model's own prompt.
        passage_prompt: Text before each document; None likewise.
        dtype: Dtype of the computation. float32 by default, since similarities are near each other
            and many would tie in bfloat16.
        device: As for `LocalScorer`.
        max_length: Longest text in tokens; None is the model's own limit, which applies if it is
            lower.
        long_documents: As for `LocalScorer`; chunks are of 180 words, without an overlap.
        revision: A branch, tag or commit on the hub.

    Raises:
        ConfigurationError: The name is blank or the embedded model's, or an argument is out of
            range. From `warm_up` and `score`: sentence-transformers is missing.
        ModelLoadError: From `warm_up` and `score`: the model cannot be loaded.
    """

    def _open(self, name: str, options: Mapping[str, Any]) -> BaseModel:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(name, **options)

    def _encoder(
        self, library: BaseModel, prompts: Prompts, device: str, weights: Weights
    ) -> Encoder[Vector]:
        return _DenseEncoder(library, self.model, prompts, device, weights)


class _DenseEncoder(Encoder["Vector"]):
    _library: SentenceTransformer

    def compare(self, query: Vector, passages: Sequence[Vector]) -> list[float]:
        return [float(passage @ query) for passage in passages]

    def _encode(self, texts: list[str], prompt: str, *, is_query: bool) -> list[Vector]:
        import numpy as np

        encode = self._library.encode_query if is_query else self._library.encode_document
        vectors = encode(
            texts,
            prompt=prompt,
            batch_size=len(texts),
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return list(vectors.astype(np.float32))
