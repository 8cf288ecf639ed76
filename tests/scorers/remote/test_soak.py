"""Thousands of calls through every kind of fault at once."""

import asyncio
import logging
import threading
import time
from collections import Counter

import dialect_answers as bodies
import pytest
from dialect_answers import score
from faults import (
    CloseIdle,
    CloseMidBody,
    CloseOnReuse,
    Drip,
    Edited,
    GzipBomb,
    HalfJson,
    Hang,
    Html,
    HugeBody,
    RateLimited,
    Redirect,
    ResetBefore,
    ResetMidBody,
    Slow,
    Status,
    TooLarge,
    WrongEncoding,
)
from loopback import Fault
from soaking import drop_a_result, no_old_garbage, seconds_without_a_core, soak_server

from jina_rerank import RemoteScorer, Reranker, ServiceError
from jina_rerank.scorers.service.io_thread import io_thread

logger = logging.getLogger(__name__)

CALLS, TASKS, SHARE = 5_000, 32, 0.2
DEADLINE = 1.0
GRACE = 0.1
"""Seconds that a call may take beyond its deadline."""

LONGEST = 60.0
"""Seconds for all calls."""


FAULTS: list[Fault] = [
    CloseIdle(),
    CloseMidBody(),
    CloseOnReuse(),
    Drip(0.2, 40),
    Edited(drop_a_result),
    GzipBomb(8),
    HalfJson(),
    Hang(),
    Html(200),
    Html(502),
    HugeBody(4),
    RateLimited("concurrency", retry_after="0.05"),
    RateLimited("requests", retry_after="30"),
    Redirect("/elsewhere"),
    ResetBefore(),
    ResetMidBody(),
    Slow(0.1),
    Status(401, bodies.INVALID_KEY),
    Status(409, bodies.BUSY),
    Status(422, bodies.validation("documents", "no")),
    Status(500, bodies.INTERNAL_ERROR),
    Status(503, bodies.UNAVAILABLE, {"retry-after": "0.05"}),
    Status(504, bodies.SERVICE_TIMEOUT),
    TooLarge(max_documents=3),
    WrongEncoding(),
]


@pytest.mark.slow
async def test_every_call_ends_right_or_with_a_typed_error_and_in_time() -> None:
    # Right in every run; punctual in one of three, since the machine itself stops now and then.
    for seed in (1, 2, 3):
        latest, took = await soak(seed)
        if latest < GRACE and took < LONGEST:
            return
    pytest.fail(f"{latest:+.3f} s beyond the deadline, {took:.0f} s in all")


async def soak(seed: int) -> tuple[float, float]:
    """By how much the latest call missed its deadline, and how long all took; in seconds."""
    outcomes: Counter[str] = Counter()
    lateness: list[float] = []
    with no_old_garbage(), soak_server(FAULTS, SHARE, seed) as server:
        reranker = Reranker(
            RemoteScorer(
                base_url=server.url, timeout=DEADLINE, read_timeout=0.4, max_concurrency=TASKS
            )
        )
        await reranker.awarm_up()
        tasks_before = await count_tasks()
        threads = [t for t in threading.enumerate() if t.name == "jina-rerank-io"]
        threads.append(threading.current_thread())

        async def call(number: int) -> None:
            query = f"query {number}"
            documents = [f"document {number} {i}" for i in range(number % 9 + 1)]
            started, stolen = time.monotonic(), seconds_without_a_core(*threads)
            try:
                ranking = await reranker.arank(query, documents, top_n=5)
            except ServiceError as error:
                outcomes[type(error).__name__] += 1
            else:
                best = sorted(documents, key=lambda text: -score(query, text))[:5]
                assert [hit.text for hit in ranking] == best
                outcomes["right"] += 1
            # Other processes on the machine are not the call's doing.
            stolen = seconds_without_a_core(*threads) - stolen
            lateness.append(time.monotonic() - started - stolen - DEADLINE)

        numbers = iter(range(CALLS))

        async def work() -> None:
            for number in numbers:
                await call(number)

        started = time.monotonic()
        await asyncio.gather(*(work() for _ in range(TASKS)))
        took = time.monotonic() - started

        logger.info("%.1f s, %s, latest %+.3f s", took, dict(outcomes), max(lateness))
        assert sum(outcomes.values()) == CALLS
        assert outcomes["right"] > CALLS / 2
        assert outcomes.keys() > {"AuthenticationError", "RateLimitError", "ResponseError"}
        assert server.open_connections <= TASKS
        assert await count_tasks() == tasks_before
        await reranker.aclose()
        assert server.open_connections == 0
    return max(lateness), took


async def count_tasks() -> int:
    """The number of tasks that the I/O thread has, this question aside."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return await asyncio.wrap_future(io_thread().submit(count()))
