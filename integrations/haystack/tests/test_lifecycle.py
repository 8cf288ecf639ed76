import asyncio
import json
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from haystack import Document, Pipeline

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import ConfigurationError, ModelLoadError, Reranker
from jina_rerank.testing import FakeScorer

DOCUMENTS = [Document(content="Tea."), Document(content="Coffee beans are roasted.")]


class GatedScorer(FakeScorer):
    """Whatever it does waits, in a thread, until the event loop opens the gate."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.waiting = threading.Event()

    def _wait(self):
        self.waiting.set()
        assert self.gate.wait(30), "the event loop stood still"

    def warm_up(self):
        self._wait()
        super().warm_up()

    async def awarm_up(self):
        await asyncio.to_thread(self.warm_up)

    def score(self, requests, on_scored=None):
        self._wait()
        return super().score(requests, on_scored)

    async def ascore(self, requests, on_scored=None):
        return await asyncio.to_thread(self.score, requests, on_scored)


@pytest.mark.parametrize("work", ["warm_up_async", "run_async"])
async def test_the_event_loop_turns_meanwhile(work):
    scorer = GatedScorer()
    ranker = JinaRanker(reranker=Reranker(scorer))
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    is_run = work == "run_async"
    call = ranker.run_async("coffee", DOCUMENTS) if is_run else pipeline.warm_up_async()
    task = asyncio.create_task(call)
    assert await asyncio.to_thread(scorer.waiting.wait, 30)
    assert not task.done()
    scorer.gate.set()
    await task
    assert (scorer.warm_ups, len(scorer.requests)) == ((0, 1) if is_run else (1, 0))


def test_the_event_loop_turns_while_the_model_loads():
    # In a process of its own, where no other test has loaded the model already.
    script = """
        import asyncio, json, time
        from haystack import Pipeline
        from haystack_integrations.components.rankers.jina_rerank import JinaRanker

        async def main():
            pipeline = Pipeline()
            pipeline.add_component("ranker", JinaRanker())
            started = last = time.perf_counter()
            longest = 0.0
            task = asyncio.create_task(pipeline.warm_up_async())
            while not task.done():
                await asyncio.sleep(0.005)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now
            await task
            print(json.dumps({"longest": longest, "total": last - started}))

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    lag = json.loads(done.stdout)
    # A load on the loop would be one long gap, as long as all of it.
    assert lag["longest"] < lag["total"] / 2


class TestWarmUp:
    def test_twice_is_once(self):
        ranker = JinaRanker()
        ranker.warm_up()
        first = ranker.run("coffee", DOCUMENTS)
        ranker.warm_up()
        asyncio.run(ranker.warm_up_async())
        assert ranker.run("coffee", DOCUMENTS) == first

    def test_a_run_needs_none(self, run):
        assert run(JinaRanker(), "How is coffee made?", DOCUMENTS)["documents"]

    def test_a_pipeline_does_it(self, scorer, ranker):
        pipeline = Pipeline()
        pipeline.add_component("ranker", ranker)
        data = {"ranker": {"query": "q", "documents": [Document(content="x 1")]}}
        pipeline.run(data)
        assert scorer.warm_ups == 1

    def test_a_model_that_is_not_there_says_so(self, tmp_path):
        ranker = JinaRanker(tmp_path)
        with pytest.raises(ModelLoadError):
            ranker.warm_up()
        with pytest.raises(ModelLoadError):
            asyncio.run(ranker.warm_up_async())


class TestClose:
    def test_a_closed_one_opens_again(self, run):
        ranker = JinaRanker()
        before = run(ranker, "coffee", DOCUMENTS)
        ranker.close()
        ranker.close()
        assert run(ranker, "coffee", DOCUMENTS) == before

    async def test_a_closed_one_opens_again_async(self):
        ranker = JinaRanker()
        before = await ranker.run_async("coffee", DOCUMENTS)
        await ranker.close_async()
        await ranker.close_async()
        assert await ranker.run_async("coffee", DOCUMENTS) == before

    def test_one_that_was_never_used(self):
        JinaRanker().close()

    def test_a_shared_reranker_stays_open(self, scorer, ranker):
        pipeline = Pipeline()
        pipeline.add_component("ranker", ranker)
        pipeline.close()
        asyncio.run(pipeline.close_async())
        assert not scorer.closed

    def test_its_own_is_closed(self):
        ranker = JinaRanker()
        ranker.warm_up()
        own = ranker._open()
        pipeline = Pipeline()
        pipeline.add_component("ranker", ranker)
        pipeline.close()
        with pytest.raises(ConfigurationError, match="closed"):
            own.warm_up()

    def test_two_that_use_one_model_do_not_disturb_each_other(self):
        one, other = JinaRanker(), JinaRanker()
        one.warm_up()
        before = other.run("coffee", DOCUMENTS)
        one.close()
        assert other.run("coffee", DOCUMENTS) == before


def test_many_threads_at_a_time():
    ranker = JinaRanker()
    expected = ranker.run("coffee", DOCUMENTS)
    ranker.close()
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda _: ranker.run("coffee", DOCUMENTS), range(8)))
    assert outputs == [expected] * 8
