"""Teachers: whatever can say how well passages answer a query."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ScoringError
from ..evaluation.encoder import Encoder, load_encoder
from ..evaluation.first_stage import Bm25Index
from ..scorers.base import CacheableScorer, Scorer, ScoreRequest

Question = tuple[str, Sequence[str]]
"""A query and passages."""

INSTALL_DISTILL = 'pip install "jina-rerank[distill]"'

WINDOW_WORDS = 180
"""Words that an embedding model reads at a time: about the 256 tokens that small ones were
trained for. A longer passage is as near to a query as its nearest window."""


class Teacher(Protocol):
    """Scores passages for queries."""

    @property
    def fingerprint(self) -> str:
        """All that decides the scores beside the texts, as one line."""
        ...

    def warm_up(self) -> None:
        """Load what scoring needs. Idempotent."""
        ...

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """A score for each passage of each question; higher is better."""
        ...


class ScorerTeacher:
    """Any scorer: a model on this machine, a service, another cross-encoder.

    The student learns from logits where the scorer has them, since near 1 scores lie too close
    together to learn an order from.

    Args:
        scorer: Asked for the passages of many queries at a time.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    @property
    def fingerprint(self) -> str:
        """The scorer's, or its model's name where it has none."""
        if isinstance(self._scorer, CacheableScorer):
            return self._scorer.fingerprint
        return self._scorer.model

    def warm_up(self) -> None:
        """The scorer's."""
        self._scorer.warm_up()

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """See `Teacher`.

        Raises:
            ScoringError: An answer is degraded.
            RerankError: As the scorer.
        """
        answers = self._scorer.score([ScoreRequest(query, texts) for query, texts in questions])
        for (query, _), answer in zip(questions, answers, strict=True):
            if answer.degraded is not None:
                raise ScoringError(
                    f"{self._scorer.model}: the answer to {query!r} is degraded, which nobody is "
                    f"to learn from: {answer.degraded}"
                )
        return [list(a.scores if a.logits is None else a.logits) for a in answers]


class EmbeddingTeacher:
    """A bi-encoder: the cosine of query and passage.

    Args:
        model: A folder or hub id that sentence-transformers reads; it is read when it is first
            asked.
        query_prompt: What stands before each query.
        passage_prompt: What stands before each passage.
        dtype: What it computes in.

    Raises:
        ConfigurationError: From `score`: sentence-transformers is not installed.
        ModelLoadError: From `score`: the model cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        *,
        query_prompt: str = "",
        passage_prompt: str = "",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._name = model
        self._prompts = (query_prompt, passage_prompt)
        self._dtype = dtype
        self._encoder: Encoder | None = None

    @property
    def fingerprint(self) -> str:
        """The weights' hash where they are in a folder, otherwise the name; prompts and dtype."""
        weights = Path(self._name) / "model.safetensors"
        name = hash_of_file(weights) if weights.is_file() else self._name
        return f"embedding {name} {self._prompts} {self._dtype}"

    def warm_up(self) -> None:
        """Load the model."""
        self._loaded()

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """See `Teacher`."""
        queries = [self._prompts[0] + query for query, _ in questions]
        windows = {text: self._windows(text) for _, texts in questions for text in texts}
        vectors = self._loaded().embed(
            [*queries, *(part for parts in windows.values() for part in parts)]
        )
        return [
            [max(float(vectors[query] @ vectors[w]) for w in windows[text]) for text in texts]
            for query, (_, texts) in zip(queries, questions, strict=True)
        ]

    def _windows(self, text: str) -> list[str]:
        words = text.split()
        starts = range(0, max(1, len(words)), WINDOW_WORDS)
        return [self._prompts[1] + " ".join(words[at : at + WINDOW_WORDS]) for at in starts]

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            model = load_encoder(self._name, dtype=self._dtype, install=INSTALL_DISTILL)
            self._encoder = Encoder(model, self._name, batch_size=64)
        return self._encoder


class Bm25Teacher:
    """BM25: what words alone can tell.

    Args:
        passages: All that will be asked for; how rare a word is is counted in them.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        self._index = Bm25Index({text: text for text in passages})
        hashed = hashlib.sha256()
        for text in passages:
            hashed.update(text.encode() + b"\0")
        self._hash = hashed.hexdigest()[:16]

    @property
    def fingerprint(self) -> str:
        """The hash of the passages."""
        return f"bm25 {self._hash}"

    def warm_up(self) -> None:
        """Nothing to do."""

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """See `Teacher`."""
        return [self._index.score(query, texts) for query, texts in questions]


def mix(
    scores: Mapping[str, Sequence[float]], weights: Mapping[str, float], length: int
) -> NDArray[np.float32]:
    """The weighted mean of several teachers' scores for one list.

    Teachers have scales of their own, so each one's scores are first brought to mean 0 and
    standard deviation 1 over the list; a teacher that tells no difference says nothing.

    Args:
        scores: By teacher.
        weights: By teacher; without one all is 0.
        length: Length of the list.
    """
    total = np.zeros(length, dtype=np.float32)
    for name, weight in weights.items():
        own = np.asarray(scores[name], dtype=np.float32)
        spread = float(own.std())
        if spread > 0:
            total += weight / sum(weights.values()) * (own - own.mean()) / spread
    return total


def hash_of_file(path: Path) -> str:
    """The first 16 digits of a file's SHA-256."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()[:16]
