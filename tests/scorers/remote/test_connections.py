"""One pool for all threads, loops and calls; nothing left behind."""

import asyncio
import gc
import logging
import multiprocessing
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from multiprocessing.connection import Connection

import pytest
from dialect_answers import score
from faults import CloseIdle, CloseOnReuse, Drip, FaultServer, Hang, Slow, Status
from other_process import run_python

from jina_rerank import (
    ConfigurationError,
    RemoteScorer,
    RequestTimeoutError,
    Reranker,
    RerankError,
    ScoreRequest,
    ServiceError,
)
from jina_rerank.scorers.service.http import HttpTransport
from jina_rerank.scorers.service.io_thread import io_thread
from jina_rerank.scorers.service.pace import Pace
from jina_rerank.scorers.service.secrets import Secrets

DOCUMENTS = ["one", "two", "three"]
EXPECTED = [score("q", text) for text in DOCUMENTS]


def until(condition, seconds: float = 5.0) -> bool:
    """Tell whether something comes true before long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def tasks() -> int:
    """The number of tasks that the I/O thread has, this question aside."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return io_thread().submit(count()).result()


def test_one_connection_serves_calls_one_after_the_other(server: FaultServer, connect) -> None:
    reranker = connect()
    for _ in range(20):
        assert reranker.score("q", DOCUMENTS) == EXPECTED
    assert server.connections == 1


def test_threads_share_the_pool(server: FaultServer, connect) -> None:
    server.default = Slow(0.01)
    reranker = connect(max_concurrency=3)
    with ThreadPoolExecutor(16) as threads:
        scores = list(threads.map(lambda _: reranker.score("q", DOCUMENTS), range(64)))
    assert scores == [EXPECTED] * 64
    assert server.connections <= 3
    assert server.most_in_flight <= 3


def test_event_loops_share_the_pool(server: FaultServer, connect) -> None:
    reranker = connect()
    for _ in range(3):
        assert asyncio.run(reranker.ascore("q", DOCUMENTS)) == EXPECTED
    assert reranker.score("q", DOCUMENTS) == EXPECTED
    assert server.connections == 1


async def test_a_sync_call_within_a_running_loop(connect) -> None:
    assert connect().score("q", DOCUMENTS) == EXPECTED


@pytest.mark.parametrize("fault", [CloseIdle(), CloseOnReuse()])
def test_a_connection_that_the_service_closed(server: FaultServer, connect, fault) -> None:
    server.default = fault
    reranker = connect()
    for _ in range(6):
        assert reranker.score("q", DOCUMENTS) == EXPECTED


def test_closing_closes_the_connections(server: FaultServer, connect) -> None:
    reranker = connect()
    reranker.rank("q", DOCUMENTS)
    assert server.open_connections == 1
    reranker.close()
    reranker.close()
    assert until(lambda: server.open_connections == 0)
    with pytest.raises(ConfigurationError, match="closed"):
        reranker.rank("q", DOCUMENTS)
    with pytest.raises(ConfigurationError, match="closed"):
        reranker.warm_up()


async def test_context_managers_close_too(server: FaultServer, connect) -> None:
    async with connect() as reranker:
        await reranker.arank("q", DOCUMENTS)
        assert server.open_connections == 1
    assert until(lambda: server.open_connections == 0)


def test_a_forgotten_scorer_closes_its_connections(server: FaultServer) -> None:
    reranker = Reranker(RemoteScorer(base_url=server.url))
    reranker.rank("q", DOCUMENTS)
    assert server.open_connections == 1
    del reranker
    gc.collect()
    assert until(lambda: server.open_connections == 0)


def test_closing_ends_what_is_under_way(server: FaultServer, connect) -> None:
    server.default = Hang()
    reranker = connect(timeout=20, read_timeout=20)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(reranker.rank, "q", DOCUMENTS)
        assert until(lambda: server.in_flight == 1)
        reranker.close()
        assert isinstance(call.exception(timeout=10), RerankError)
    assert until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("fault", [Hang(), Slow(5), Drip(0.2)])
def test_nothing_leaks_after_timeouts(server: FaultServer, connect, fault) -> None:
    reranker = connect(timeout=0.3, max_concurrency=4)
    before = tasks()
    server.default = fault
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(reranker.rank, "q", DOCUMENTS) for _ in range(16)]
        assert all(isinstance(call.exception(), RequestTimeoutError) for call in calls)
    assert until(lambda: server.open_connections == 0)
    assert tasks() == before
    server.default = Slow(0)
    # Places in the pool that were never given back would make this wait for ever.
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: reranker.score("q", DOCUMENTS), range(16)))


async def test_nothing_leaks_after_cancellations(server: FaultServer, connect) -> None:
    reranker = connect(timeout=20, max_concurrency=4, max_documents=1)
    await reranker.awarm_up()
    before = tasks()
    server.default = Hang()
    calls = [asyncio.create_task(reranker.arank("q", DOCUMENTS)) for _ in range(8)]
    assert await asyncio.to_thread(until, lambda: server.in_flight == 4)
    for call in calls:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert await asyncio.to_thread(until, lambda: server.open_connections == 0)
    assert await asyncio.to_thread(until, lambda: tasks() == before)
    server.default = Slow(0)
    assert await reranker.ascore("q", DOCUMENTS) == EXPECTED


async def test_nothing_leaks_wherever_a_call_is_cancelled(server: FaultServer, connect) -> None:
    rng = random.Random(7)
    reranker = connect(timeout=5, max_concurrency=2)
    await reranker.awarm_up()
    server.default = CloseIdle()  # so that every call makes a connection
    for _ in range(400):
        call = asyncio.create_task(reranker.arank("q", DOCUMENTS))
        await asyncio.sleep(rng.uniform(0, 0.004))
        call.cancel()
        await asyncio.wait([call])
    server.default = Slow(0.01)
    # Places in the pool that were lost would leave these waiting until their deadline.
    assert await asyncio.gather(*(reranker.ascore("q", DOCUMENTS) for _ in range(8)))
    assert server.open_connections <= 2


async def test_the_event_loop_is_not_blocked(server: FaultServer, connect) -> None:
    server.default = Slow(0.3)
    reranker = connect()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await reranker.arank("q", DOCUMENTS)
    ticking.cancel()
    assert ticks > 10  # some 60 on a quiet machine, none if the loop had waited


def test_a_context_of_the_caller_reaches_the_request(server: FaultServer, connect) -> None:
    # Tracing keeps the current span in a context variable.
    variable: ContextVar[str] = ContextVar("variable", default="nothing")
    seen: list[str] = []
    variable.set("the caller's")
    connect().scorer.score([ScoreRequest("q", ["a"])], lambda _: seen.append(variable.get()))
    assert seen == ["the caller's"]


def _score_in_child(reranker: Reranker, results: Connection) -> None:
    try:
        results.send((os.getpid(), reranker.score("q", DOCUMENTS)))
    except BaseException as error:  # noqa: BLE001 - the parent is to know
        results.send((os.getpid(), repr(error)))


def test_a_forked_process_opens_its_own(server: FaultServer, connect) -> None:
    reranker = connect()
    reranker.rank("q", DOCUMENTS)
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    child = fork.Process(target=_score_in_child, args=(reranker, theirs))
    child.start()
    assert ours.poll(20)
    pid, scores = ours.recv()
    child.join(10)
    assert child.exitcode == 0
    assert pid != os.getpid()
    assert scores == EXPECTED
    assert server.connections == 2
    # The child's end did not touch the parent's connection.
    assert reranker.score("q", DOCUMENTS) == EXPECTED
    assert server.connections == 2


def test_the_interpreter_ends_in_the_middle_of_a_call(server: FaultServer) -> None:
    server.default = Hang()
    program = f"""
        import threading, time
        from jina_rerank import Reranker, RemoteScorer
        reranker = Reranker(RemoteScorer(base_url={server.url!r}, timeout=60))
        threading.Thread(target=reranker.rank, args=("q", ["a"]), daemon=True).start()
        time.sleep(0.5)
    """
    done = run_python(program, "-X", "dev", "-W", "error")
    assert done.returncode == 0
    # The call itself may say that it was cancelled.
    for complaint in ("never awaited", "destroyed", "unclosed", "Fatal"):
        assert complaint not in done.stderr


@pytest.mark.parametrize("kept", ["reranker = ", ""], ids=["still held", "forgotten just now"])
@pytest.mark.parametrize("calls", [1, 8])
def test_the_interpreter_ends_without_a_warning_about_an_open_connection(
    server: FaultServer, kept: str, calls: int
) -> None:
    program = f"""
        from concurrent.futures import ThreadPoolExecutor
        from jina_rerank import Reranker, RemoteScorer
        def use(reranker):
            with ThreadPoolExecutor({calls}) as pool:
                list(pool.map(lambda _: reranker.rank("q", ["a", "b"]), range({calls})))
            return reranker
        {kept}use(Reranker(RemoteScorer(base_url={server.url!r})))
    """
    done = run_python(program, "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")
    assert server.received == calls


def test_importing_and_building_loads_no_http_library() -> None:
    program = (
        "import sys, jina_rerank\n"
        "jina_rerank.RemoteScorer(base_url='http://localhost')\n"
        "assert not {'httpx', 'tenacity', 'anyio'} & set(sys.modules), sys.modules.keys()"
    )
    done = run_python(program)
    assert (done.returncode, done.stderr) == (0, "")


def test_building_starts_no_thread_and_sends_nothing(server: FaultServer) -> None:
    before = threading.active_count()
    RemoteScorer(base_url=server.url)
    assert threading.active_count() == before
    assert server.connections == 0


def test_warming_up_sends_nothing(server: FaultServer, connect) -> None:
    connect().warm_up()
    assert server.connections == 0


def test_http2_is_offered_if_asked(server: FaultServer, connect) -> None:
    # Without TLS there is nobody to agree with on it, so HTTP/1.1 stays.
    assert connect(http2=True).score("q", DOCUMENTS) == EXPECTED


def test_failures_are_logged_without_texts(server: FaultServer, connect, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    server.default = Status(503)
    with pytest.raises(ServiceError):
        connect().rank("a private question", ["a private document"])
    assert "trying again" in caplog.text
    assert "private" not in caplog.text


def _close_in_child(reranker: Reranker, how: str) -> None:
    if how == "close":
        reranker.close()
    else:
        asyncio.run(reranker.aclose())


@pytest.mark.parametrize("how", ["close", "aclose"])
def test_a_forked_process_closes_its_copy_and_not_the_parents(server, connect, how: str) -> None:
    reranker = connect()
    reranker.rank("q", DOCUMENTS)
    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=_close_in_child, args=(reranker, how), daemon=True)
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert reranker.score("q", DOCUMENTS) == EXPECTED
    assert server.connections == 1


@pytest.mark.parametrize("concurrency", [1, 16])
def test_calls_that_wait_while_the_scorer_is_closed_get_an_error_with_a_type(
    server: FaultServer, connect, concurrency: int
) -> None:
    server.default = Hang()
    reranker = connect(timeout=20, read_timeout=20, max_concurrency=concurrency, max_documents=1)
    at_once = min(concurrency, Pace.START)
    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(reranker.rank, "q", DOCUMENTS) for _ in range(6)]
        assert until(lambda: server.in_flight == at_once)
        reranker.close()
        failures = [call.exception(timeout=10) for call in calls]
    assert all(isinstance(failure, ConfigurationError) for failure in failures), failures
    assert until(lambda: server.open_connections == 0)


async def test_a_transport_that_is_closed_while_it_opens_leaves_no_client(server) -> None:
    transport = HttpTransport(
        server.url, Secrets(None), connect_timeout=1, read_timeout=1, connections=1, http2=False
    )
    opening = [asyncio.create_task(transport.open()) for _ in range(2)]
    await asyncio.sleep(0)
    await transport.aclose()
    await asyncio.gather(*opening, return_exceptions=True)
    with pytest.raises(RuntimeError, match="closed"):
        await transport.send(b"{}")
    assert server.received == 0


def test_a_call_while_the_interpreter_ends_is_an_error_and_does_not_hang(server) -> None:
    program = f"""
        import atexit
        from jina_rerank import Reranker, RemoteScorer, ScoringError
        reranker = Reranker(RemoteScorer(base_url={server.url!r}))
        def late():
            try:
                reranker.rank('q', ['a'])
            except ScoringError as error:
                print(error)
            reranker.close()
        atexit.register(late)
        reranker.rank('q', ['a'])
    """
    done = run_python(program, "-W", "error")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the interpreter is ending" in done.stdout
    assert server.received == 1
