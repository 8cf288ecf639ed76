"""Models that embed texts one by one, for an `EmbeddingScorer`."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ..errors import ScoringError
from .prompts import Prompts
from .weights import Weights

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel
    from tokenizers import Tokenizer

BATCH = 64
"""Texts that are embedded at a time."""

KEPT = 100_000
"""Number of vectors that are kept: 150 MB at 384 dimensions."""

VectorT = TypeVar("VectorT")


@dataclass(frozen=True, slots=True)
class Text:
    """A text to embed; queries and passages have different prompts."""

    text: str
    is_query: bool


class Encoder(ABC, Generic[VectorT]):
    """A loaded model that keeps the vectors of texts, so that it embeds each only once.

    Args:
        library: Model of sentence-transformers.
        name: The model's name in errors.
        prompts: Prompts before queries and passages.
        device: The device it runs on.
        weights: The weights it was loaded from.
        kept: Number of vectors kept from one call to the next; the oldest are dropped first.
    """

    def __init__(
        self,
        library: BaseModel,
        name: str,
        prompts: Prompts,
        device: str,
        weights: Weights,
        *,
        kept: int = KEPT,
    ) -> None:
        self.device = device
        self.weights = weights
        self.name = name
        self._library = library
        self._prompts = prompts
        self._kept = kept
        self._vectors: dict[Text, VectorT] = {}
        self._lock = threading.Lock()
        self._tokenizer = _tokenizer_of(library)

    @abstractmethod
    def compare(self, query: VectorT, passages: Sequence[VectorT]) -> list[float]:
        """Compute the scores of passages from their vectors and the query's."""

    @abstractmethod
    def _encode(self, texts: list[str], prompt: str, *, is_query: bool) -> list[VectorT]:
        """Compute the vectors of texts, in order."""

    def known(self, texts: Sequence[Text]) -> dict[Text, VectorT]:
        """Get the vectors of these texts, as far as they are kept."""
        with self._lock:
            return {text: self._vectors[text] for text in texts if text in self._vectors}

    def embed(self, texts: Sequence[Text]) -> dict[Text, VectorT]:
        """Embed a batch of queries, or a batch of passages; called on the owner thread.

        Raises:
            ScoringError: The model failed.
        """
        is_query = texts[0].is_query
        prompt = self._prompts.query if is_query else self._prompts.passage
        try:
            vectors = self._encode([one.text for one in texts], prompt, is_query=is_query)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ScoringError(f"{self.name} failed on {len(texts)} texts: {error}") from error
        found = dict(zip(texts, vectors, strict=True))
        with self._lock:
            self._vectors.update(found)
            for text in list(self._vectors)[: max(0, len(self._vectors) - self._kept)]:
                del self._vectors[text]
        return found

    def lengths(self, texts: Sequence[str]) -> list[int] | None:
        """Count the tokens of each text, without special tokens; None without a fast tokenizer."""
        if self._tokenizer is None:
            return None
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(one.ids) for one in encoded]

    def room(self, *, is_query: bool) -> int | None:
        """Compute the most tokens of a text that are read beside its prompt; None for no limit."""
        limit = self._library.max_seq_length
        if limit is None or self._tokenizer is None:
            return None
        prompt = self._prompts.query if is_query else self._prompts.passage
        around = len(self._tokenizer.encode(prompt).ids)
        return max(1, int(limit) - around)


def batches_of(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Divide texts into batches of similar length: first passages, then queries.

    Texts are padded to the longest in a batch. Queries have another prompt, so they share no batch
    with passages.
    """
    for is_query in (False, True):
        own = [text for text in texts if text.is_query == is_query]
        own.sort(key=lambda one: -len(one.text))
        for start in range(0, len(own), BATCH):
            yield own[start : start + BATCH]


def _tokenizer_of(library: BaseModel) -> Tokenizer | None:
    """Copy the model's tokenizer, without padding and truncation; None if it is not a fast one."""
    from tokenizers import Tokenizer

    backend = getattr(getattr(library, "tokenizer", None), "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    copied: Tokenizer = Tokenizer.from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    return copied
