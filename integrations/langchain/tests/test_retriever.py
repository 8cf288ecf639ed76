"""Inside LangChain: retrievers, pipelines, batches, event loops, callbacks and traces."""

import asyncio
import threading
from dataclasses import replace

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    BaseCallbackHandler,
    CallbackManager,
)
from langchain_core.documents import (
    BaseDocumentCompressor,
    BaseDocumentTransformer,
    Document,
)
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from jina_rerank import InputError, Reranker, RetrievalOrder
from jina_rerank.testing import FakeScorer
from langchain_jina_rerank import JinaRerank

QUERY = "how to store coffee beans"


@pytest.fixture
def compressor(backend):
    return JinaRerank(**backend.settings)


@pytest.fixture
def reranking(compressor, retriever):
    return ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)


@pytest.fixture
def best_first(backend, documents):
    return backend.order(QUERY, documents)


def ids(documents):
    return [document.id for document in documents]


async def test_a_retriever_reranks(reranking, best_first):
    assert ids(reranking.invoke(QUERY)) == best_first
    assert ids(await reranking.ainvoke(QUERY)) == best_first


async def test_a_retriever_that_finds_nothing(reranking, retriever):
    retriever.documents.clear()
    assert reranking.invoke(QUERY) == []
    assert await reranking.ainvoke(QUERY) == []


async def test_queries_in_a_batch_get_their_own_answers(reranking, backend, documents):
    queries = ["water", "grind", "store", "94 degrees"]
    expected = [backend.order(query, documents) for query in queries]
    assert len({tuple(order) for order in expected}) > 1
    assert [ids(found) for found in reranking.batch(queries)] == expected
    assert [ids(found) for found in await reranking.abatch(queries)] == expected


async def test_a_pipeline_hands_on_documents_and_callbacks(compressor, documents):
    class Upper(BaseDocumentTransformer):
        def transform_documents(self, documents, **kwargs):
            return [
                d.model_copy(update={"page_content": d.page_content.upper()}) for d in documents
            ]

    collector = RunCollectorCallbackHandler()
    pipeline = DocumentCompressorPipeline(
        transformers=[compressor, Upper(), compressor.model_copy(update={"top_n": 1})]
    )
    (found,) = pipeline.compress_documents(documents, QUERY, callbacks=[collector])
    assert found.page_content.isupper()
    assert await pipeline.acompress_documents(documents, QUERY, callbacks=[collector]) == [found]
    assert [run.name for run in collector.traced_runs] == ["JinaRerank"] * 4


async def test_the_sync_retriever_works_inside_a_running_loop(retriever, backend, best_first):
    reranking = ContextualCompressionRetriever(
        base_compressor=JinaRerank(**backend.settings, top_n=1), base_retriever=retriever
    )
    assert ids(reranking.invoke(QUERY)) == best_first[:1]


async def test_async_is_native_and_leaves_the_loop_to_others(retriever):
    class Waiting(FakeScorer):
        """Answers only once another task of the same event loop lets it."""

        def __init__(self):
            super().__init__()
            self.begun, self.release = asyncio.Event(), asyncio.Event()
            self.threads = []

        async def ascore(self, requests, on_scored=None):
            self.threads.append(threading.current_thread())
            self.begun.set()
            await self.release.wait()
            return await super().ascore(requests, on_scored)

    scorer = Waiting()
    reranking = ContextualCompressionRetriever(
        base_compressor=JinaRerank(reranker=Reranker(scorer)), base_retriever=retriever
    )
    search = asyncio.create_task(reranking.ainvoke(QUERY))
    await asyncio.wait_for(scorer.begun.wait(), timeout=30)
    assert not search.done()
    scorer.release.set()
    assert ids(await search) == ["b", "a", "c"]
    assert scorer.threads == [threading.current_thread()]


async def test_cancelling_the_search_cancels_the_scoring(retriever):
    class Endless(FakeScorer):
        def __init__(self):
            super().__init__()
            self.begun, self.cancelled = asyncio.Event(), False

        async def ascore(self, requests, on_scored=None):
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

    scorer = Endless()
    reranking = ContextualCompressionRetriever(
        base_compressor=JinaRerank(reranker=Reranker(scorer)), base_retriever=retriever
    )
    search = asyncio.create_task(reranking.ainvoke(QUERY))
    await asyncio.wait_for(scorer.begun.wait(), timeout=30)
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    assert scorer.cancelled


def check_child(root, backend, documents):
    """The trace of one search: the retriever, and under it the search and the reranking."""
    assert root.run_type == "retriever"
    assert [(child.name, child.run_type) for child in root.child_runs] == [
        ("ListRetriever", "retriever"),
        ("JinaRerank", "chain"),
    ]
    run = root.child_runs[1]
    assert run.inputs["query"] == QUERY
    assert ids(run.inputs["documents"]) == ["a", "b", "c"]
    assert ids(run.outputs["documents"]) == backend.order(QUERY, documents)
    assert run.outputs["model"] == backend.model
    assert run.outputs["usage"]["documents"] == 3
    assert run.outputs["usage"]["tokens"] == backend.tokens(QUERY, documents)
    assert run.outputs["usage"]["cached_documents"] is None
    assert run.outputs["degraded"] is None
    assert run.outputs["unscored"] == []
    assert "relevance_score" not in run.inputs["documents"][0].metadata


async def test_reranking_is_a_child_run_that_carries_the_usage(reranking, backend, documents):
    collector = RunCollectorCallbackHandler()
    reranking.invoke(QUERY, config={"callbacks": [collector]})
    await reranking.ainvoke(QUERY, config={"callbacks": [collector]})
    sync_root, async_root = collector.traced_runs
    check_child(sync_root, backend, documents)
    check_child(async_root, backend, documents)


def test_what_was_degraded_unscored_cached_and_cut_is_in_the_trace(documents):
    class Cached(FakeScorer):
        def score(self, requests, on_scored=None):
            answers = super().score(requests, on_scored)
            return [replace(a, usage=replace(a.usage, cached_documents=2)) for a in answers]

    compressors = [
        JinaRerank(reranker=Reranker(RetrievalOrder()), top_n=1),
        JinaRerank(reranker=Reranker(Cached())),
        JinaRerank(max_length=16),
    ]
    collector = RunCollectorCallbackHandler()
    for compressor in compressors:
        compressor.compress_documents(documents, QUERY, callbacks=[collector])
    degraded, cached, cut = (run.outputs for run in collector.traced_runs)
    assert degraded["degraded"] == "the order of retrieval was kept"
    assert degraded["unscored"] == [0, 1, 2]
    assert degraded["documents"][0].metadata["relevance_unscored"] is True
    assert cached["usage"]["cached_documents"] == 2
    assert cut["usage"]["truncated_documents"] == sum(
        "relevance_truncated_tokens" in d.metadata for d in cut["documents"]
    )


async def test_a_failure_is_the_child_runs_too(reranking):
    collector = RunCollectorCallbackHandler()
    config = {"callbacks": [collector]}
    with pytest.raises(InputError, match="query: is blank"):
        reranking.invoke(" ", config)
    with pytest.raises(InputError, match="query: is blank"):
        await reranking.ainvoke(" ", config)
    for root in collector.traced_runs:
        assert "query: is blank" in root.child_runs[1].error
    assert len(collector.traced_runs) == 2


async def test_event_streams_show_the_reranking(reranking):
    ends = [
        event["data"]["output"]["usage"]["documents"]
        async for event in reranking.astream_events(QUERY, version="v2")
        if event["name"] == "JinaRerank" and event["event"] == "on_chain_end"
    ]
    assert ends == [3]


async def test_standing_alone_it_needs_no_callbacks(compressor, documents, best_first):
    found = compressor.compress_documents(documents, QUERY, callbacks=None)
    assert ids(found) == best_first
    assert await compressor.acompress_documents(documents, QUERY, callbacks=None) == found


class Heard(BaseCallbackHandler):
    def __init__(self):
        self.names = []

    def on_chain_start(self, serialized, inputs, *, name=None, **kwargs):
        self.names.append(name)


class HeardAsync(AsyncCallbackHandler):
    def __init__(self):
        self.names = []

    async def on_chain_start(self, serialized, inputs, *, name=None, **kwargs):
        self.names.append(name)


@pytest.mark.parametrize("handler", [Heard, HeardAsync])
@pytest.mark.parametrize(
    "wrap", [list, CallbackManager, AsyncCallbackManager], ids=["list", "sync", "async"]
)
async def test_both_methods_take_whatever_callbacks_they_are_handed(
    compressor, documents, handler, wrap
):
    heard = handler()
    callbacks = wrap([heard])
    compressor.compress_documents(documents, QUERY, callbacks=callbacks)
    await compressor.acompress_documents(documents, QUERY, callbacks=callbacks)
    assert heard.names == ["JinaRerank", "JinaRerank"]


async def test_the_sync_method_bears_the_async_manager_of_the_default_executor(
    compressor, documents, best_first
):
    # What LangChain's own acompress_documents does: the sync method, in a worker thread, with
    # the callback manager of the async caller.
    heard = HeardAsync()
    found = await BaseDocumentCompressor.acompress_documents(
        compressor, documents, QUERY, callbacks=AsyncCallbackManager([heard])
    )
    assert ids(found) == best_first
    assert heard.names == ["JinaRerank"]


async def test_as_a_step_of_a_chain_with_a_top_n_for_each_call(compressor, documents, best_first):
    def rerank(request):
        chosen = compressor.model_copy(update={"top_n": request["top_n"]})
        return chosen.compress_documents(documents, request["query"])

    async def arerank(request):
        chosen = compressor.model_copy(update={"top_n": request["top_n"]})
        return await chosen.acompress_documents(documents, request["query"])

    collector = RunCollectorCallbackHandler()
    config = {"callbacks": [collector]}
    chain = RunnableLambda(rerank, arerank, name="step") | RunnableLambda(ids)
    assert chain.invoke({"query": QUERY, "top_n": 1}, config) == best_first[:1]
    assert await chain.ainvoke({"query": QUERY, "top_n": 2}, config) == best_first[:2]
    # The step passes no callbacks on, and its trace holds the reranking all the same.
    steps = [root.child_runs[0] for root in collector.traced_runs]
    assert [(s.name, [c.name for c in s.child_runs]) for s in steps] == [
        ("step", ["JinaRerank"]),
        ("step", ["JinaRerank"]),
    ]


def test_threads_may_share_one_compressor(retriever, backend):
    shared = ContextualCompressionRetriever(
        base_compressor=JinaRerank(**backend.settings, top_n=1), base_retriever=retriever
    )
    queries = ["How hot is the water?", "How should coffee beans be stored?"] * 4
    alone = [shared.invoke(query) for query in queries[:2]]
    together = shared.batch(queries, config={"max_concurrency": 8})
    assert [ids(found) for found in together] == [ids(found) for found in alone] * 4
    assert isinstance(together[0][0], Document)
