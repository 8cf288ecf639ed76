import asyncio
import copy
import json
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults import Right
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


class Gated:
    """A service that answers when the event loop has opened the gate."""

    def __init__(self):
        self.gate = threading.Event()

    async def answer(self, exchange):
        assert await asyncio.to_thread(self.gate.wait, 30), "the event loop stood still"
        await Right().answer(exchange)


async def test_the_event_loop_turns_while_a_service_thinks(server, remote, eventually):
    server.default = gated = Gated()
    task = asyncio.create_task(remote().run_async("coffee", DOCUMENTS))
    assert await asyncio.to_thread(eventually, lambda: server.in_flight == 1)
    assert not task.done()
    gated.gate.set()
    assert len((await task)["documents"]) == 2


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
    def test_twice_is_once(self, backend):
        ranker = backend.build()
        ranker.warm_up()
        first = ranker.run("coffee", DOCUMENTS)
        ranker.warm_up()
        asyncio.run(ranker.warm_up_async())
        assert ranker.run("coffee", DOCUMENTS) == first

    def test_a_run_needs_none(self, run, backend):
        assert run(backend.build(), "How is coffee made?", DOCUMENTS)["documents"]

    def test_a_pipeline_does_it(self, scorer, ranker):
        pipeline = Pipeline()
        pipeline.add_component("ranker", ranker)
        data = {"ranker": {"query": "q", "documents": [Document(content="x 1")]}}
        pipeline.run(data)
        assert scorer.warm_ups == 1

    @pytest.mark.torch
    def test_a_model_that_is_not_there_says_so(self, tmp_path):
        ranker = JinaRanker(tmp_path)
        with pytest.raises(ModelLoadError):
            ranker.warm_up()
        with pytest.raises(ModelLoadError):
            asyncio.run(ranker.warm_up_async())


class TestClose:
    def test_a_closed_one_opens_again(self, run, backend):
        ranker = backend.build()
        before = run(ranker, "coffee", DOCUMENTS)
        ranker.close()
        ranker.close()
        assert run(ranker, "coffee", DOCUMENTS) == before

    async def test_a_closed_one_opens_again_async(self, backend):
        ranker = backend.build()
        before = await ranker.run_async("coffee", DOCUMENTS)
        await ranker.close_async()
        await ranker.close_async()
        assert await ranker.run_async("coffee", DOCUMENTS) == before

    def test_one_that_was_never_used(self, backend):
        backend.build().close()
        asyncio.run(backend.build().close_async())

    def test_a_shared_reranker_stays_open(self, scorer, ranker):
        pipeline = Pipeline()
        pipeline.add_component("ranker", ranker)
        pipeline.close()
        asyncio.run(pipeline.close_async())
        assert not scorer.closed

    def test_its_own_is_closed(self, backend):
        ranker = backend.build()
        ranker.warm_up()
        own = ranker._open()
        pipeline = Pipeline()
        pipeline.add_component("ranker", ranker)
        pipeline.close()
        with pytest.raises(ConfigurationError, match="closed"):
            own.warm_up()

    @pytest.mark.parametrize("how", ["close", "close_async"])
    def test_no_connection_stays_open(self, server, remote, eventually, how):
        ranker = remote()
        ranker.run("coffee", DOCUMENTS)
        own = ranker._open()  # one that is forgotten would close by itself
        assert server.open_connections == 1
        ranker.close() if how == "close" else asyncio.run(ranker.close_async())
        assert eventually(lambda: server.open_connections == 0)
        with pytest.raises(ConfigurationError, match="closed"):
            own.warm_up()

    def test_two_that_use_one_model_do_not_disturb_each_other(self, backend):
        one, other = backend.build(), backend.build()
        one.warm_up()
        before = other.run("coffee", DOCUMENTS)
        one.close()
        assert other.run("coffee", DOCUMENTS) == before


def contents(output):
    return [document.content for document in output["documents"]]


def scores(output):
    return [document.score for document in output["documents"]]


def test_many_threads_at_a_time(backend):
    ranker = backend.build()
    expected = ranker.run("coffee", DOCUMENTS)
    ranker.close()
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda _: ranker.run("coffee", DOCUMENTS), range(8)))
    for output in outputs:
        assert contents(output) == contents(expected)
        # Their pairs share batches, and how large one is moves the last digits in bfloat16.
        assert scores(output) == pytest.approx(scores(expected), abs=0.005)
        assert output["meta"] == expected["meta"]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
class TestCopies:
    def test_a_warm_one_ranks_the_same(self, copied, backend):
        ranker = backend.build(top_k=1, meta_fields_to_embed=["title"])
        ranker.warm_up()
        again = copied(ranker)
        assert again.to_dict() == ranker.to_dict()
        assert again.run("How is coffee made?", DOCUMENTS) == ranker.run(
            "How is coffee made?", DOCUMENTS
        )

    def test_closing_one_leaves_the_other_open(self, copied, backend):
        ranker = backend.build()
        before = ranker.run("coffee", DOCUMENTS)
        own = ranker._open()
        again = copied(ranker)
        assert again.run("coffee", DOCUMENTS) == before
        again.close()
        assert ranker.run("coffee", DOCUMENTS) == before
        assert ranker._open() is own

    def test_it_works_in_a_pipeline(self, copied, backend):
        pipeline = Pipeline()
        pipeline.add_component("ranker", copied(backend.build(top_k=1)))
        output = pipeline.run({"ranker": {"query": "coffee", "documents": DOCUMENTS}})
        assert len(output["ranker"]["documents"]) == 1

    def test_a_shared_reranker_goes_along(self, copied):
        ranker = copied(JinaRanker(top_k=1, reranker=Reranker()))
        assert ranker.run("coffee", DOCUMENTS)["documents"][0].content is not None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_a_whole_copy_has_sockets_of_its_own(copied, backend):
    ranker = backend.build()
    again = copied(ranker)
    assert again.__haystack_input__._component is again
    assert again.__haystack_output__._component is again
    assert again.__haystack_input__ is not ranker.__haystack_input__
