"""Models that embed texts, each by itself: what an `EmbeddingScorer` runs."""

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
"""Vectors that are kept: 150 MB of them at 384 dimensions."""

VectorT = TypeVar("VectorT")


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is embedded: queries and passages have prompts of their own."""

    text: str
    is_query: bool


class Encoder(ABC, Generic[VectorT]):
    """A loaded model that embeds a text once, as long as its vector is kept.

    Args:
        library: Model of sentence-transformers.
        name: What errors call it.
        prompts: What it reads before each text.
        device: Where it runs.
        weights: Which weights it was loaded from.
        kept: How many vectors are kept from one call to the next; the oldest go first.
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
        """The scores of passages, by their vectors and the query's."""

    @abstractmethod
    def _encode(self, texts: list[str], prompt: str, *, is_query: bool) -> list[VectorT]:
        """The vectors of some texts, in order."""

    def known(self, texts: Sequence[Text]) -> dict[Text, VectorT]:
        """The vectors that are kept of these texts."""
        with self._lock:
            return {text: self._vectors[text] for text in texts if text in self._vectors}

    def embed(self, texts: Sequence[Text]) -> dict[Text, VectorT]:
        """The vectors of a batch of queries, or of a batch of passages; on the owner thread.

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
        """The number of tokens of each text, without special ones; None if that cannot be told."""
        if self._tokenizer is None:
            return None
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(one.ids) for one in encoded]

    def room(self, *, is_query: bool) -> int | None:
        """The tokens of a text that are read beside its prompt; None if there is no limit."""
        limit = self._library.max_seq_length
        if limit is None or self._tokenizer is None:
            return None
        prompt = self._prompts.query if is_query else self._prompts.passage
        around = len(self._tokenizer.encode(prompt).ids)
        return max(1, int(limit) - around)


def batches_of(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Passages and then queries, neighbours of similar length: the longest decides what is padded.

    A model has another prompt for queries, so the two share no batch.
    """
    for is_query in (False, True):
        own = [text for text in texts if text.is_query == is_query]
        own.sort(key=lambda one: -len(one.text))
        for start in range(0, len(own), BATCH):
            yield own[start : start + BATCH]


def _tokenizer_of(library: BaseModel) -> Tokenizer | None:
    """A copy of the model's tokenizer, where it is a fast one that neither pads nor cuts."""
    from tokenizers import Tokenizer

    backend = getattr(getattr(library, "tokenizer", None), "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    copied: Tokenizer = Tokenizer.from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    return copied
