"""Retries, waits, deadlines: what is tried again, for how long, and at whose cost."""

import time
from email.utils import formatdate

import dialect_answers as bodies
import pytest
from faults import (
    CloseMidBody,
    Drip,
    FaultServer,
    Hang,
    Html,
    RateLimited,
    ResetBefore,
    ResetMidBody,
    Right,
    Slow,
    Status,
)
from hypothesis import given
from hypothesis import strategies as st

from jina_rerank import (
    ConnectionFailedError,
    RateLimitError,
    RemoteScorer,
    RequestTimeoutError,
    Reranker,
    ServerError,
    ServiceError,
)
from jina_rerank.scorers.service import retries
from jina_rerank.scorers.service.failures import read_retry_after
from jina_rerank.scorers.service.retries import RetryBudget, with_retries


def timed(call) -> tuple[float, ServiceError]:
    started = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        call()
    return time.monotonic() - started, caught.value


@pytest.mark.parametrize(
    "fault",
    [
        Status(408),
        Status(409, bodies.BUSY),
        Status(424),
        Status(429),
        Status(500, bodies.INTERNAL_ERROR),
        Status(502, "<html>"),
        Status(503, bodies.UNAVAILABLE),
        Html(524),
        ResetBefore(),
        ResetMidBody(),
        CloseMidBody(),
        Hang(),
    ],
)
def test_what_may_pass_is_tried_again(server: FaultServer, connect, fault) -> None:
    server.script(fault, fault)
    assert len(connect(max_retries=2, read_timeout=0.3).rank("q", ["a", "b"])) == 2
    assert server.received == 3


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422])
def test_what_will_not_pass_is_not(server: FaultServer, connect, status: int) -> None:
    server.default = Status(status)
    with pytest.raises(ServiceError):
        connect().rank("q", ["a"])
    assert server.received == 1


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_after_the_last_retry_the_error_is_the_service_s(server, connect, max_retries) -> None:
    server.default = Status(503, bodies.UNAVAILABLE)
    with pytest.raises(ServerError, match="exponential backoff"):
        connect(max_retries=max_retries).rank("q", ["a"])
    assert server.received == max_retries + 1


def test_no_connection_is_an_error_with_the_address() -> None:
    with FaultServer() as server:
        url = server.url
    with (
        Reranker(RemoteScorer(base_url=url, timeout=5)) as reranker,
        pytest.raises(ConnectionFailedError, match=url),
    ):
        reranker.rank("q", ["a"])


def test_a_name_that_does_not_resolve() -> None:
    with (
        Reranker(RemoteScorer(base_url="http://rerank.invalid", timeout=5)) as reranker,
        pytest.raises(ConnectionFailedError, match=r"rerank\.invalid"),
    ):
        reranker.rank("q", ["a"])


def test_retry_after_is_waited_for(server: FaultServer, connect) -> None:
    server.script(RateLimited(retry_after="0.4"))
    connect().rank("q", ["a"])
    first, second = server.requests
    assert second.started - first.started >= 0.4


def test_retry_after_of_a_503_too(server: FaultServer, connect) -> None:
    server.script(Status(503, headers={"retry-after": "0.4"}))
    connect().rank("q", ["a"])
    first, second = server.requests
    assert second.started - first.started >= 0.4


@pytest.mark.parametrize(
    ("retry_after", "timeout"),
    [("6", 5.0), ("3600", 300.0), ("61", 300.0), (formatdate(time.time() + 3600), 300.0)],
)
def test_a_wait_that_is_too_long_is_not_begun(server, connect, retry_after, timeout) -> None:
    server.default = RateLimited(retry_after=retry_after)
    seconds, error = timed(lambda: connect(timeout=timeout).rank("q", ["a"]))
    assert isinstance(error, RateLimitError)
    assert error.retry_after is not None
    assert error.retry_after > 5
    assert seconds < 4  # at once, with room for a busy machine
    assert server.received == 1


def test_a_backoff_that_is_too_long_is_not_begun(server, connect, monkeypatch) -> None:
    monkeypatch.setattr(retries, "wait_random_exponential", lambda **_: lambda _: 50.0)
    server.default = Status(503)
    seconds, error = timed(lambda: connect(timeout=10).rank("q", ["a"]))
    assert isinstance(error, ServerError)
    assert seconds < 8
    assert server.received == 1


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (None, None, None),
        ("2", 2, 2),
        ("0.25", 0.25, 0.25),
        ("-3", 0, 0),
        (formatdate(time.time() + 100, usegmt=True), 0, 100),
        (formatdate(time.time() - 100, usegmt=True), 0, 0),
        ("tomorrow", None, None),
        ("", None, None),
        ("nan", None, None),
        ("inf", None, None),
    ],
)
def test_reading_retry_after(value, low, high) -> None:
    seconds = read_retry_after(value)
    if low is None:
        assert seconds is None
    else:
        assert seconds is not None
        assert low <= seconds <= high


@given(st.text(max_size=30))
def test_no_retry_after_breaks_the_reading(value: str) -> None:
    seconds = read_retry_after(value)
    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Hang(), RequestTimeoutError),
        (Drip(0.05), RequestTimeoutError),
        (Slow(30), RequestTimeoutError),
        (Status(503), ServerError),
        (RateLimited(), RateLimitError),
        (ResetBefore(), ConnectionFailedError),
    ],
)
def test_a_call_ends_at_its_deadline(server: FaultServer, connect, fault, kind) -> None:
    server.default = fault
    reranker = connect(timeout=1.0, read_timeout=30, max_retries=10)
    seconds, error = timed(lambda: reranker.rank("q", ["a", "b", "c"]))
    assert seconds < 10  # and not 30; how punctual it is, the soak measures
    # The deadline may also pass in the middle of an attempt.
    assert isinstance(error, kind | RequestTimeoutError)


def test_the_deadline_covers_all_parts_and_waits(server: FaultServer, connect) -> None:
    server.default = Slow(0.4)
    reranker = connect(timeout=1.0, max_documents=1, max_concurrency=1)
    seconds, error = timed(lambda: reranker.rank("q", [f"{i}" for i in range(20)]))
    assert isinstance(error, RequestTimeoutError)
    assert "timeout=1 s" in str(error)
    assert seconds < 6  # and not the 8 that all parts would take
    assert server.received < 10


def test_what_was_tried_before_the_deadline_is_said(server: FaultServer, connect) -> None:
    server.script(Status(503, bodies.UNAVAILABLE))
    server.default = Hang()
    _, error = timed(lambda: connect(timeout=0.8).rank("q", ["a"]))
    assert isinstance(error, RequestTimeoutError)
    assert "before that" in str(error)
    assert "503" in str(error)


def test_silence_is_not_waited_for_until_the_deadline(server: FaultServer, connect) -> None:
    server.script(Hang())
    seconds = -time.monotonic()
    connect(timeout=20, read_timeout=0.3).rank("q", ["a"])
    assert seconds + time.monotonic() < 10
    assert server.received == 2


def test_an_outage_is_not_amplified(server: FaultServer, connect) -> None:
    server.default = Status(503)
    reranker = connect(max_retries=5)
    calls = 60
    for _ in range(calls):
        with pytest.raises(ServerError):
            reranker.rank("q", ["a"])
    # 10 from the reserve, one for every fifth call, and one for each second that passes.
    assert server.received < calls * 1.2 + 10 + 15
    server.default = Right()
    assert len(reranker.rank("q", ["a"])) == 1


def test_the_budget_is_shared_by_all_scorers_of_a_service(server: FaultServer, connect) -> None:
    server.default = Status(503)
    calls = 40
    for _ in range(calls):
        with pytest.raises(ServerError):
            connect(max_retries=5).rank("q", ["a"])
    assert server.received < calls * 1.2 + 10 + 15


def test_the_budget_comes_back_with_time_and_with_requests(monkeypatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = RetryBudget()
    assert sum(budget.spend() for _ in range(50)) == 10
    now += 3.0
    assert sum(budget.spend() for _ in range(50)) == 3
    for _ in range(25):
        budget.earn()
    assert sum(budget.spend() for _ in range(50)) == 5
    now += 1000.0
    assert sum(budget.spend() for _ in range(50)) == 10


async def test_waits_are_random_up_to_a_bound_that_doubles(monkeypatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.02)
    waits: list[list[float]] = [[], []]
    for _ in range(30):
        attempts: list[float] = []

        async def attempt(attempts: list[float] = attempts) -> None:
            attempts.append(time.monotonic())
            raise ServerError("down")

        with pytest.raises(ServerError):
            await with_retries(
                attempt, max_retries=2, deadline=time.monotonic() + 60, budget=RetryBudget()
            )
        first, second, third = attempts
        waits[0].append(second - first)
        waits[1].append(third - second)
    assert min(waits[0]) < 0.01 < max(waits[0])
    assert sum(waits[1]) > sum(waits[0])
