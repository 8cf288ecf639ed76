"""Unloading idle models until the next request for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ..scorers.in_process import InProcessScorer

logger = logging.getLogger(__name__)


class Idle:
    """Records the last use of each model, and unloads models that have been idle for too long.

    The next request loads such a model again, within its deadline.

    Args:
        scorers: The models of this process, by the served names whose requests use them; a
            fallback has the name of the model in whose place it answers.
        seconds: Seconds without a request after which a model is unloaded; 0 for never.
        clock: Function that returns seconds, from any starting point.
    """

    def __init__(
        self,
        scorers: Mapping[str, InProcessScorer],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scorers = scorers
        self._seconds = seconds
        self._clock = clock
        self._used = dict.fromkeys(scorers, clock())
        self._users = dict.fromkeys(scorers, 0)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Keep a model loaded for the time of the block; other services' models are ignored."""
        if name not in self._scorers:
            yield
            return
        self._users[name] += 1
        try:
            yield
        finally:
            self._users[name] -= 1
            self._used[name] = self._clock()

    def unload(self) -> None:
        """Unload the models that have been idle for too long."""
        before = self._clock() - self._seconds
        for name, scorer in self._scorers.items():
            if not self._users[name] and self._used[name] <= before and scorer.facts is not None:
                scorer.unload()
                logger.info("unloaded", extra={"model": name})

    async def watch(self) -> None:
        """Unload idle models until cancelled; return at once if they are never unloaded."""
        while self._seconds:
            await asyncio.sleep(self._seconds / 10)
            self.unload()
