"""Adaptive concurrency: the requests on their way at a time, learned from the answers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import CapacityLimiter

from ...errors import RateLimitError


class Pace:
    """A limit on concurrent requests that falls when the service says "too many".

    It begins at 4, grows by one with each answer up to `most`, is halved by a 429, and from then
    on grows by one after 10 answers or a second: additive increase, multiplicative decrease, as
    TCP does. So a free account with two concurrent requests and a cluster with hundreds need no
    setting.

    Args:
        most: Never more than this.
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
        """The number of requests that may be on their way now."""
        return int(self._slots.total_tokens)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a place, in order of arrival, and learn from how the request ends."""
        async with self._slots:
            started = time.monotonic()
            try:
                yield
            except RateLimitError:
                self._shrink(started)
                raise
            self._grow()

    def _shrink(self, started: float) -> None:
        # One burst of refusals is one piece of news: requests that were under way when the
        # limit last fell say nothing about the new one.
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
