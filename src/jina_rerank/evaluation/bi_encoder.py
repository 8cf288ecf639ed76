"""Bi-encoders as a baseline: query and document embedded apart, compared by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from .._numbers import check_count
from ..embedded import find_other_source
from ..scorers.weights import find_weights
from .systems import Candidates, SystemScores, fingerprint_of

if TYPE_CHECKING:
    from .encoder import Encoder


class BiEncoderSystem:
    """An embedding model of sentence-transformers; the score is the cosine.

    A document is embedded once for many queries, as an index would do it, so its pairs a second
    are not those of a reranker. Remote code is never run.

    Args:
        model: A folder or a hub id.
        name: What reports call it; the model's name by default.
        max_length: Longest text in tokens; the model's own limit applies if it is lower.
        batch_size: How many texts are embedded at a time.

    Raises:
        ConfigurationError: The name is blank or the embedded model's, or a number is out of range.
            From `warm_up`: sentence-transformers is missing.
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
        self._model = fspath(find_other_source(model))
        self._name = name or self._model
        self._max_length = None if max_length is None else check_count(max_length, "max_length")
        self._batch_size = check_count(batch_size, "batch_size")
        self._encoder: Encoder | None = None

    @property
    def name(self) -> str:
        """The name in reports."""
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
        self._loaded()

    def score(self, candidates: Sequence[Candidates]) -> list[SystemScores]:
        """The cosines of each query with its candidates.

        Raises:
            ScoringError: The model failed.
        """
        encoder = self._loaded()
        documents = encoder.embed(text for one in candidates for text in one.documents)
        queries = encoder.embed(one.query for one in candidates)
        return [
            SystemScores([float(documents[text] @ queries[one.query]) for text in one.documents])
            for one in candidates
        ]

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            from .encoder import Encoder, load_encoder

            model = load_encoder(self._model)
            limit = model.max_seq_length
            if self._max_length is not None:
                model.max_seq_length = min(self._max_length, limit or self._max_length)
            self._encoder = Encoder(model, self._model, batch_size=self._batch_size)
        return self._encoder
