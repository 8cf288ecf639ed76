"""Adaptive concurrency: the number of requests in flight, adapted to the service's answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CapacityLimiter

from ...errors import RateLimitError


class Pace:
    """A limit on concurrent requests that falls when the service answers 429.

    It begins at 4, grows by one with each answer up to `most`, is halved by a 429, and from then
    on grows by one after 10 answers or a second: additive increase, multiplicative decrease, as
    TCP does. So a free account with two concurrent requests and a cluster with hundreds need no
    setting.

    Args:
        most: Largest value of the limit.
    """

    START = 4
    ANSWERS_PER_STEP = 10
    SECONDS_PER_STEP = 1.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots = CapacityLimiter(min(self.START, most))
        self._was_limited = False
        self._changed_at = time.monotonic()
        self._answers = 0

    @property
    def size(self) -> int:
        """The number of requests that may be in flight now."""
        return int(self._slots.total_tokens)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, in order of arrival, and adapt the limit to the request's outcome."""
        async with self._slots:
            started = time.monotonic()
            try:
                yield
            except RateLimitError:
                self._shrink(started)
                raise
            self._grow()

    def _shrink(self, started: float) -> None:
        # A burst of refusals counts once: requests that were in flight when the limit last fell
        # give no information about the new limit.
        if not self._was_limited or started >= self._changed_at:
            self._resize(max(1, self.size // 2))
        self._was_limited = True

    def _grow(self) -> None:
        self._answers += 1
        is_time = (
            not self._was_limited
            or self._answers >= self.ANSWERS_PER_STEP
            or time.monotonic() - self._changed_at >= self.SECONDS_PER_STEP
        )
        if is_time and self.size < self._most:
            self._resize(self.size + 1)

    def _resize(self, size: int) -> None:
        self._slots.total_tokens = size
        self._changed_at = time.monotonic()
        self._answers = 0
