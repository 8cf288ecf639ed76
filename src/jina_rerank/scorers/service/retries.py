"""Retries of requests: which failures are retried, and after which wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, stop_never, wait_random_exponential

from ...errors import (
    ConnectionFailedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    ServiceError,
)

T = TypeVar("T")

logger = logging.getLogger("jina_rerank.service")

RETRYABLE = (ConnectionFailedError, RateLimitError, RequestTimeoutError, ServerError)
"""Reranking is a pure function of the request, so every failure that may pass can be retried."""

LONGEST_WAIT = 60.0
"""Longest wait, in seconds. If a service asks for more, the call fails at once."""

FIRST_WAIT = 0.5
"""Longest wait before the first retry, in seconds; it doubles with each retry."""

FIRST_WAIT_FOR_A_MINUTES_LIMIT = 4.0
"""The same if a limit per minute is used up, for which half a second is too short."""


class RetryBudget:
    """Limits retries to a share of the requests, over all scorers that call one service.

    When a service is down, clients that try three times make its recovery three times as hard. A
    retry costs 1; a request earns 0.2, and time earns 1 a second up to a reserve of 10, for
    processes with few requests. The scheme and the 20% are Finagle's (twitter/finagle,
    RetryBudget).
    """

    RESERVE = 10.0
    MOST = 100.0
    SHARE = 0.2
    PER_SECOND = 1.0

    def __init__(self) -> None:
        self._balance = self.RESERVE
        self._counted_at = time.monotonic()

    def earn(self) -> None:
        """Count a request that is no retry."""
        self._balance = min(self.MOST, self._balance + self.SHARE)

    def spend(self) -> bool:
        """Pay for one retry; return False if the budget is used up."""
        now = time.monotonic()
        if self._balance < self.RESERVE:
            earned = (now - self._counted_at) * self.PER_SECOND
            self._balance = min(self.RESERVE, self._balance + earned)
        self._counted_at = now
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True


_budgets: dict[str, RetryBudget] = {}


def budget_for(service: str) -> RetryBudget:
    """Get the budget that all scorers of this process share for one service."""
    return _budgets.setdefault(service, RetryBudget())


async def with_retries(
    attempt: Callable[[], Awaitable[T]], *, max_retries: int, deadline: float, budget: RetryBudget
) -> T:
    """Call `attempt`, and call it again after failures that may pass.

    The waits are random between zero and a bound that doubles ("full jitter"), unless the service
    names its own. There is no retry if its wait would end after the deadline.

    Args:
        attempt: Sends the request once.
        max_retries: Largest number of retries.
        deadline: Deadline of the whole call, in `time.monotonic`'s seconds.
        budget: The budget that pays for each retry.

    Raises:
        ServiceError: The error of the last attempt.
    """
    seconds = 0.0

    def retry(state: RetryCallState) -> bool:
        nonlocal seconds
        error = state.outcome.exception() if state.outcome else None
        if not isinstance(error, RETRYABLE) or state.attempt_number > max_retries:
            return False
        seconds = _wait_after(error, state)
        if seconds > LONGEST_WAIT or time.monotonic() + seconds >= deadline:
            return False
        if not budget.spend():
            logger.warning("not trying again, too many requests fail: %s", error)
            return False
        logger.info("trying again in %.2f s: %s", seconds, error)
        return True

    budget.earn()
    retrying = AsyncRetrying(retry=retry, wait=lambda _: seconds, stop=stop_never, reraise=True)
    return await retrying(attempt)


def _wait_after(error: ServiceError, state: RetryCallState) -> float:
    if error.retry_after is not None:
        return error.retry_after
    by_the_minute = isinstance(error, RateLimitError) and error.kind in {"requests", "tokens"}
    first = FIRST_WAIT_FOR_A_MINUTES_LIMIT if by_the_minute else FIRST_WAIT
    return wait_random_exponential(multiplier=first, max=LONGEST_WAIT)(state)
