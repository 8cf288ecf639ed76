"""Base of scorers that run a cross-encoder in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from os import PathLike

from .._numbers import as_whole, shown
from ..errors import ConfigurationError
from ._pair_model import PairModel
from ._pairs import score_in_steps
from .base import LongDocuments, ModelFacts, OnScored, ScoreRequest, ScoreResponse
from .device import Dtype
from .shared_model import SharedModelScorer
from .worker import worker_for

LEAST_MAX_LENGTH = 16
"""Smallest `max_length`: room for some tokens of the query and some of the document."""


class InProcessScorer(SharedModelScorer[PairModel]):
    """A scorer that reads query and document together, on the owner thread of a device.

    Args:
        model: The name to show.
        source: The model's source: a folder, a hub id, or None for the embedded model.
        revision: A branch, tag or commit on the hub.
        dtype: Dtype of the computation.
        device: Device of the computation.
        max_length: Longest pair in tokens; the model's own limit applies if it is lower.
        long_documents: Treatment of documents that do not fit.

    Raises:
        ConfigurationError: A setting is out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        source: str | PathLike[str] | None,
        revision: str | None,
        dtype: Dtype,
        device: str,
        max_length: int,
        long_documents: LongDocuments,
    ) -> None:
        longest = as_whole(max_length)
        if longest is None or longest < LEAST_MAX_LENGTH:
            raise ConfigurationError(
                f"max_length must be a number from {LEAST_MAX_LENGTH}, not {shown(max_length)}"
            )
        super().__init__(
            model,
            source=source,
            revision=revision,
            dtype=dtype,
            device=device,
            long_documents=long_documents,
        )
        self._max_length = longest

    @property
    def facts(self) -> ModelFacts | None:
        """Description of the loaded model; None before it is loaded.

        `max_tokens` is this scorer's, which may be lower than the model's own.
        """
        model = self._loaded()
        if model is None:
            return None
        most = min(self._max_length, model.max_length)
        return replace(model.facts, max_tokens=most)

    def _settings(self) -> dict[str, object]:
        return {"max_length": self._max_length}

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request; see `Scorer.score`."""
        future = self._submit(self._loading().result(), requests, on_scored)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C here must stop the work there
            raise

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops the work."""
        model = await self._aloaded()
        return await asyncio.wrap_future(self._submit(model, requests, on_scored))

    def _submit(
        self, model: PairModel, requests: Sequence[ScoreRequest], on_scored: OnScored | None
    ) -> Future[list[ScoreResponse]]:
        self._weights = model.weights
        submitted = time.perf_counter()
        return worker_for(model.device).submit(
            lambda: score_in_steps(
                model,
                requests,
                self._max_length,
                self._long_documents,
                on_scored,
                submitted=submitted,
            )
        )
