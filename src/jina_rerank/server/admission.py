"""Admission: a queue bounded by the estimated work in it, which measures its throughput."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..scorers.base import ScoreRequest
from .refusals import TooManyRequests

BYTES_PER_TOKEN = 4.0
"""Bytes per token for estimates: English has about 4.5, Chinese about 3."""

SPECIAL_TOKENS = 4
"""Number of special tokens of a pair, for estimates."""

MEMORY = 10.0
"""Half-life of the measured throughput, in seconds with work."""

LONGEST_WAIT = 60.0
"""Maximum of Retry-After in seconds, since the measured throughput may be wrong."""


def estimate_tokens(request: ScoreRequest, max_length: int) -> int:
    """Estimate the tokens that the model will read in all pairs, without tokenizing them.

    Args:
        request: The query, its documents, and how long documents are read.
        max_length: Maximum tokens of a pair.
    """
    # As in scorers/_pairs.py: a query has at most half of a pair, and windows overlap by a quarter.
    beside = min(_tokens(request.query), max_length / 2) + SPECIAL_TOKENS
    if request.instruction is not None:
        beside += _tokens(request.instruction)
    room = max(1.0, max_length - beside)
    most = math.inf if request.max_document_tokens is None else request.max_document_tokens
    total = 0
    for text in request.documents:
        tokens = min(most, _tokens(text))
        windows = 1
        if tokens > room and request.long_documents == "chunk":
            windows += math.ceil((tokens - room) / max(1.0, room * 3 / 4))
        total += windows * min(max_length, math.ceil(beside + min(tokens, room)))
    return total


def _tokens(text: str) -> float:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return size / BYTES_PER_TOKEN


class Queue:
    """All requests that wait or are being answered, counted by their tokens.

    It only admits or refuses requests: an admitted request goes at once to the model's thread,
    which schedules requests in turn.

    Args:
        limit: Maximum number of tokens; a request to an empty queue may have more.
        clock: Function that returns seconds, from any starting point.

    Attributes:
        tokens: Present number of tokens.
        requests: Present number of requests.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self.tokens = 0
        self.requests = 0
        # Tokens and seconds, both with exponential decay; their quotient is the throughput.
        self._done = 0.0
        self._busy = 0.0
        self._seen = clock()

    @contextmanager
    def place(self, tokens: int) -> Iterator[None]:
        """Take a place in the queue for the time of the block.

        Raises:
            TooManyRequests: The queue is full; the error has the time after which to retry.
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
            # A request that failed or was cancelled has taken time, but its work is unknown.
            self._note(done)
            self.tokens -= tokens
            self.requests -= 1

    @property
    def tokens_per_second(self) -> float | None:
        """Recent throughput while there are requests; None before the first one is done."""
        return self._done / self._busy if self._done and self._busy else None

    def _wait_for(self, tokens: int) -> float:
        speed = self.tokens_per_second
        if speed is None:
            return 1.0
        # Tokens that must be done before there is room; all of them for a request over the limit.
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
