"""Watchdog that detects models of a process that no longer compute."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence

from ..ranking import Ranking
from ..reranker import Reranker
from ..scorers.in_process import InProcessScorer
from ..scorers.worker import batches_computed

PATIENCE = 1.0
"""Seconds that one check waits for its pairs."""

FRESH = 1.0
"""Seconds for which a result is reused, since anybody may request checks at any rate."""


class Pulse:
    """Distinguishes a model that is busy from one that hangs.

    A check has every model score one pair. Under load that pair waits its turn, which is not a
    failure as long as any batch is computed meanwhile.

    Args:
        models: Models that compute in this process, fallbacks included.
        limit: Seconds without a single batch after which a waiting pair means a hang.
        clock: Function that returns seconds, from any starting point.
    """

    def __init__(
        self,
        models: Sequence[Reranker],
        limit: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._limit = limit
        self._clock = clock
        self._asked: asyncio.Future[list[Ranking]] | None = None
        self._answered = -math.inf
        self._batches = 0
        self._beat = 0.0

    async def hangs(self) -> bool:
        """Return True if a model hangs; a pair that still waits is kept for the next check.

        Raises:
            RerankError: A model does not compute at all.
        """
        if self._clock() < self._answered + FRESH:
            return False
        asked = self._asked
        if asked is None:
            self._beat = self._clock()
            asked = self._asked = asyncio.gather(
                *(model.arank("alive?", ["alive"]) for model in self._models if _is_there(model))
            )
        await asyncio.wait({asked}, timeout=PATIENCE)
        if asked.done():
            # Several calls may wait for the same check, and the next check may have begun.
            if self._asked is asked:
                self._asked = None
            asked.result()
            self._answered = self._clock()
            return False
        batches = batches_computed()
        if batches != self._batches:
            self._batches, self._beat = batches, self._clock()
        return self._clock() - self._beat > self._limit


def _is_there(model: Reranker) -> bool:
    """Return True if a model is loaded: an unloaded one cannot hang, and no check loads it."""
    scorer = model.scorer
    return not isinstance(scorer, InProcessScorer) or scorer.facts is not None
