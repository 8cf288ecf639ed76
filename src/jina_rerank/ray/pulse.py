"""Whether the models of a process still compute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ..ranking import Ranking
from ..reranker import Reranker
from ..scorers._worker import batches_computed

PATIENCE = 1.0
"""Seconds that one check waits for its pairs."""


class Pulse:
    """Tells a model that is busy from one that hangs.

    A check has every model score one pair. Under load that pair waits its turn, which is no sign of
    illness as long as anything at all is computed meanwhile.

    Args:
        models: They compute in this process.
        limit: Seconds without a single batch after which a waiting pair means a hang.
        clock: Seconds, from any point.
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
        self._batches = 0
        self._beat = 0.0

    async def hangs(self) -> bool:
        """Whether a model hangs; it answers soon, and remembers what it waits for.

        Raises:
            RerankError: A model does not compute at all.
        """
        if self._asked is None:
            self._beat = self._clock()
            self._asked = asyncio.gather(
                *(model.arank("alive?", ["alive"]) for model in self._models)
            )
        await asyncio.wait({self._asked}, timeout=PATIENCE)
        if self._asked.done():
            answered, self._asked = self._asked, None
            answered.result()
            return False
        batches = batches_computed()
        if batches != self._batches:
            self._batches, self._beat = batches, self._clock()
        return self._clock() - self._beat > self._limit
