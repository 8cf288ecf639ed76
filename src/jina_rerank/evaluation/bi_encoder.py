"""Bi-encoders as a baseline: query and document embedded apart, compared by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

from .._quiet import quiet
from ..errors import ModelLoadError, ScoringError
from ..scorers._device import choose_device
from ..scorers._weights import find_weights
from ._extra import import_extra
from .systems import Candidates, SystemScores, fingerprint_of

_INSTALL = 'pip install "jina-rerank[cross-encoder]"'


class BiEncoderSystem:
    """An embedding model of sentence-transformers; the score is the cosine.

    Each document is embedded once for all queries, as an index would do it, so its pairs a second
    are not those of a reranker. Remote code is never run.

    Args:
        model: A folder or a hub id.
        name: What reports call it; the model's name by default.
        max_length: Longest text in tokens; the model's own limit applies if it is lower.
        batch_size: How many texts are embedded at a time.

    Raises:
        ConfigurationError: From `warm_up`: sentence-transformers is missing.
        ModelLoadError: From `warm_up`: the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        name: str | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
    ) -> None:
        self._model = fspath(model)
        self._name = name or self._model
        self._max_length = max_length
        self._batch_size = batch_size
        self._encoder: Any = None
        self._embedded: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What reports call it."""
        return self._name

    @property
    def fingerprint(self) -> str | None:
        """The model's files and the longest text."""
        return fingerprint_of(
            system="bi-encoder",
            model=self._model,
            weights=find_weights(self._model, None),
            max_length=self._max_length,
        )

    def warm_up(self) -> None:
        """Load the model."""
        if self._encoder is not None:
            return
        library = import_extra("sentence_transformers", _INSTALL)
        try:
            with quiet():
                encoder = library.SentenceTransformer(
                    self._model, device=choose_device("auto"), trust_remote_code=False
                )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelLoadError(f"{self._model}: cannot be loaded: {error}") from error
        limit = encoder.max_seq_length
        if self._max_length is not None:
            encoder.max_seq_length = min(self._max_length, limit or self._max_length)
        self._encoder = encoder

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        """The cosines of each query with its candidates."""
        self.warm_up()
        texts = dict.fromkeys(text for one in candidates for text in one.documents)
        new = [text for text in texts if text not in self._embedded]
        self._embedded.update(zip(new, self._embed(new), strict=True))
        queries = self._embed([one.query for one in candidates])
        return [
            SystemScores([float(self._embedded[text] @ query) for text in one.documents])
            for one, query in zip(candidates, queries, strict=True)
        ]

    def _embed(self, texts: list[str]) -> Any:  # noqa: ANN401 - an array, a row for each text
        if not texts:
            return []
        try:
            return self._encoder.encode(
                texts,
                batch_size=self._batch_size,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
        except RuntimeError as error:
            raise ScoringError(f"{self._model} failed on {len(texts)} texts: {error}") from error
