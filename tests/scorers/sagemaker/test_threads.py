"""Nothing can stop a thread inside boto3, and nobody waits for one."""

import asyncio
import threading
import time

import pytest
from aws import PATIENCE, QUERY, TEXTS, failure_of, run_python, scores_of, wait_until
from dialect_answers import score
from faults import Drip, Hang, Right

from jina_rerank import ConfigurationError, RequestTimeoutError, RerankError, ScoreRequest


@pytest.mark.parametrize("fault", [Hang(), Drip(0.05)])
def test_a_call_ends_at_its_deadline(server, build, fault):
    scorer = build(timeout=0.5, read_timeout=60.0, max_concurrency=1)
    scorer.warm_up()
    server.default = fault
    started = time.monotonic()
    assert type(failure_of(scorer)) is RequestTimeoutError
    assert 0.4 < time.monotonic() - started < 5
    server.default = Right()
    assert scores_of(scorer, TEXTS[:1]) == [score(QUERY, TEXTS[0])]


@pytest.mark.parametrize("fault", [Hang(), Drip(0.1, 4096)])
def test_an_abandoned_thread_ends_by_itself(server, build, fault):
    scorer = build(timeout=0.5, read_timeout=60.0)
    server.default = fault
    # The answer repeats it, which with that drip would take 25 s.
    assert type(failure_of(scorer, ["x" * 1_000_000])) is RequestTimeoutError
    wait_until(lambda: server.open_connections == 0)


async def test_cancelling_frees_the_place_at_once(server, build):
    scorer = build(timeout=60.0, read_timeout=60.0, max_concurrency=1)
    await scorer.awarm_up()
    server.script(*[Hang()] * 3)
    async with asyncio.timeout(PATIENCE):
        for count in range(1, 4):
            call = asyncio.create_task(scorer.ascore([ScoreRequest(QUERY, TEXTS)]))
            await asyncio.to_thread(wait_until, lambda n=count: server.received == n)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        (response,) = await scorer.ascore([ScoreRequest(QUERY, TEXTS)])
    assert response.scores == [score(QUERY, text) for text in TEXTS]


def test_closing_ends_what_is_under_way(server, build):
    scorer = build(timeout=60.0, read_timeout=60.0)
    scorer.warm_up()
    server.default = Hang()
    errors: list[RerankError] = []
    caller = threading.Thread(target=lambda: errors.append(failure_of(scorer)))
    caller.start()
    wait_until(lambda: server.in_flight == 1)
    scorer.close()
    caller.join(PATIENCE)
    assert "closed" in str(errors[0])
    with pytest.raises(ConfigurationError, match="is closed"):
        scores_of(scorer, TEXTS)


def test_the_interpreter_does_not_wait_for_an_abandoned_thread(server):
    server.default = Hang()
    done = run_python(
        """
        import asyncio, threading
        from jina_rerank import SageMakerScorer, ScoreRequest

        async def main():
            scorer = SageMakerScorer("endpoint", timeout=600, read_timeout=600)
            await scorer.awarm_up()
            try:
                await asyncio.wait_for(scorer.ascore([ScoreRequest("q", ["a"])]), 1)
            except TimeoutError:
                print([t.name for t in threading.enumerate() if "boto3" in t.name])

        asyncio.run(main())
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "['jina-rerank-boto3']"


def test_a_forked_child_has_connections_of_its_own(server):
    done = run_python(
        """
        import os
        from jina_rerank import SageMakerScorer, ScoreRequest

        scorer = SageMakerScorer("endpoint", timeout=10)
        ask = lambda: scorer.score([ScoreRequest("q", ["a"])])[0].scores
        before = ask()
        child = os.fork()
        if child == 0:
            os._exit(0 if ask() == before else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert ask() == before
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [request.connection for request in server.requests] == [1, 2, 1]


def test_importing_and_building_load_no_boto3():
    done = run_python(
        """
        import sys
        from jina_rerank import SageMakerScorer
        SageMakerScorer("endpoint")
        print([name for name in sys.modules if name.startswith("boto")])
        """
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
