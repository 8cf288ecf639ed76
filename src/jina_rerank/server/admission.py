"""Who is let in: a queue that is bounded by the work in it, and knows how fast that gets done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .refusals import TooManyRequests

BYTES_PER_TOKEN = 4.0
"""For estimates: English has some 4.5 bytes a token, Chinese some 3."""

SPECIAL_TOKENS = 4
"""Tokens of a pair that belong to neither text."""

MEMORY = 10.0
"""After how many busy seconds a measurement of speed counts for half."""

LONGEST_WAIT = 60.0
"""The most seconds that a client is asked to wait: speed is measured, and may be measured wrong."""


def estimate_tokens(query: str, documents: Sequence[str], max_length: int) -> int:
    """Estimate the tokens that the model will read in all pairs, without tokenizing them."""
    beside = _bytes(query) / BYTES_PER_TOKEN + SPECIAL_TOKENS
    return sum(
        min(max_length, math.ceil(beside + _bytes(text) / BYTES_PER_TOKEN)) for text in documents
    )


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


class Queue:
    """All requests that wait or are being answered, by their tokens.

    It holds nobody back: who is let in goes to the model's own thread, which takes turns.

    Args:
        limit: Most tokens; a request that finds nobody there may have more.
        clock: Seconds, from any point.

    Attributes:
        tokens: How many there are now.
        requests: How many there are now.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self.tokens = 0
        self.requests = 0
        # Work done and the time it took, both fading; their quotient is the speed.
        self._done = 0.0
        self._busy = 0.0
        self._seen = clock()

    @contextmanager
    def place(self, tokens: int) -> Iterator[None]:
        """A place in the queue, for the time of the block.

        Raises:
            TooManyRequests: There is no room; it says when there will be.
        """
        if self.requests and self.tokens + tokens > self._limit:
            raise TooManyRequests(
                "the queue is full; send it again after the time that Retry-After says",
                retry_after=self._wait_for(tokens),
            )
        self._note(0)
        self.tokens += tokens
        self.requests += 1
        done = 0
        try:
            yield
            done = tokens
        finally:
            # One that failed or was given up has taken time, and nothing is known of its work.
            self._note(done)
            self.tokens -= tokens
            self.requests -= 1

    @property
    def tokens_per_second(self) -> float | None:
        """Recent speed of the work while there is any; None before the first."""
        return self._done / self._busy if self._done and self._busy else None

    def _wait_for(self, tokens: int) -> float:
        speed = self.tokens_per_second
        if speed is None:
            return 1.0
        # What must be gone before there is room; for one over the limit, everything.
        excess = min(self.tokens, self.tokens + tokens - self._limit)
        return min(LONGEST_WAIT, max(1.0, math.ceil(excess / speed)))

    def _note(self, tokens: int) -> None:
        now = self._clock()
        if self.requests:
            elapsed = now - self._seen
            faded = 0.5 ** (elapsed / MEMORY)
            self._done = self._done * faded + tokens
            self._busy = self._busy * faded + elapsed
        self._seen = now
