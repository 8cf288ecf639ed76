"""`SparseEncoderScorer`: a weight for each word of the vocabulary, as SPLADE gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelLoadError
from .embedding import EmbeddingScorer
from .prompts import Prompts
from .text_encoder import Encoder
from .weights import Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SparseEncoder
    from sentence_transformers.base.model import BaseModel


@dataclass(frozen=True, slots=True)
class SparseVector:
    """A vector, stored as its elements that are not 0.

    Attributes:
        places: Indices of these elements, in ascending order.
        weights: Values of these elements.
        size: Number of all elements, zeros included.
    """

    places: NDArray[np.int64]
    weights: NDArray[np.float32]
    size: int


class SparseEncoderScorer(EmbeddingScorer[SparseVector]):
    """Scores with a sparse encoder of sentence-transformers, such as SPLADE, by dot product.

    A checkpoint is a masked language model, which is pooled as in SPLADE, or has a modules.json of
    sentence-transformers. The arguments are those of `BiEncoderScorer`.
    """

    def _open(self, name: str, options: Mapping[str, Any]) -> BaseModel:
        from sentence_transformers import SparseEncoder
        from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

        encoder = SparseEncoder(name, **options)
        # sentence-transformers adds a random module to a checkpoint without one, and only warns.
        made = any(isinstance(module, SparseAutoEncoder) for module in encoder)
        if made and not _names_autoencoder(name, options["revision"]):
            raise ModelLoadError(
                f"{name}: is no sparse encoder: it has neither a masked language model's head nor "
                f"a sparse autoencoder; bi-encoder:{name} may run it"
            )
        return encoder

    def _encoder(
        self, library: BaseModel, prompts: Prompts, device: str, weights: Weights
    ) -> Encoder[SparseVector]:
        return _SparseEncoder(library, self.model, prompts, device, weights)


class _SparseEncoder(Encoder[SparseVector]):
    _library: SparseEncoder

    def compare(self, query: SparseVector, passages: Sequence[SparseVector]) -> list[float]:
        import numpy as np

        whole = np.zeros(query.size, dtype=np.float32)
        whole[query.places] = query.weights
        return [float(whole[one.places] @ one.weights) for one in passages]

    def _encode(self, texts: list[str], prompt: str, *, is_query: bool) -> list[SparseVector]:
        import numpy as np

        encode = self._library.encode_query if is_query else self._library.encode_document
        rows = encode(
            texts,
            prompt=prompt,
            batch_size=len(texts),
            convert_to_sparse_tensor=False,
            save_to_cpu=True,
            show_progress_bar=False,
        )
        return [
            SparseVector(places := np.flatnonzero(row), row[places], len(row))
            for row in rows.float().numpy()
        ]


def _names_autoencoder(name: str, revision: str | None) -> bool:
    """Tell whether a model's modules.json lists the autoencoder, which then is a trained one."""
    from huggingface_hub import try_to_load_from_cache

    path: object = Path(name) / "modules.json"
    if not Path(name).is_dir():
        path = try_to_load_from_cache(name, "modules.json", revision=revision)
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return False
    return "SparseAutoEncoder" in Path(path).read_text(encoding="utf-8")
