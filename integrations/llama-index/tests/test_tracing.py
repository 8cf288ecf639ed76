"""LlamaIndex's events and spans, and its older callbacks, as tracing tools read them."""

from __future__ import annotations

import asyncio
import json

import pytest
from dialect_answers import count_tokens
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.retrievers.bm25 import BM25Retriever

from jina_rerank import CachedScorer, InputError, Reranker
from jina_rerank.testing import FakeScorer
from llama_index.postprocessor.jina_rerank import JinaRerank

TEXTS = ["0.2 cup of tea", "0.9 cup of coffee", "0.5 cup of milk"]


def engine_with(rerank, manager=None):
    retriever = BM25Retriever.from_defaults(
        nodes=[TextNode(text=text) for text in TEXTS], similarity_top_k=3
    )
    return RetrieverQueryEngine.from_args(
        retriever,
        llm=MockLLM(),
        node_postprocessors=[rerank],
        callback_manager=manager,
    )


@pytest.fixture
def rerank():
    scorer = FakeScorer(lambda _, text: float(text.split()[0]), degraded="second best")
    return JinaRerank(top_n=2, reranker=Reranker(scorer))


async def call(rerank, nodes, *, sync, query="q"):
    if sync:
        return rerank.postprocess_nodes(nodes, query_str=query)
    return await rerank.apostprocess_nodes(nodes, query_str=query)


async def ask(engine, *, sync):
    return engine.query("cup") if sync else await engine.aquery("cup")


both = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


@both
async def test_start_and_end_events(backend, numbers, events, sync):
    reranked = await call(backend.build(top_n=2), numbers, sync=sync)
    (start,), (end,) = events.of(ReRankStartEvent), events.of(ReRankEndEvent)
    assert start.query.query_str == "q"
    assert (start.top_n, start.model_name) == (2, backend.model)
    assert start.nodes == numbers
    assert all(a is b for a, b in zip(end.nodes, reranked, strict=True))
    assert end.class_name() == "ReRankEndEvent"


@both
async def test_without_top_n_the_event_says_how_many_there_are(backend, numbers, events, sync):
    await call(backend.build(), numbers, sync=sync)
    assert events.of(ReRankStartEvent)[0].top_n == 4


@both
async def test_the_start_event_still_shows_the_retrieval_scores_afterwards(
    backend, numbers, events, sync
):
    await call(backend.build(), numbers, sync=sync)
    assert [node.score for node in events.of(ReRankStartEvent)[0].nodes] == [9, 7, 5, 3]


@both
async def test_the_end_event_tells_usage_and_degradation(rerank, events, sync):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    with instrument_tags({"tenant": "a"}):
        await call(rerank, nodes, sync=sync)
    (end,) = events.of(ReRankEndEvent)
    assert end.tags["tenant"] == "a"
    assert end.tags["jina_rerank"] == {
        "model": "fake",
        "usage": {
            "documents": 3,
            "tokens": None,
            "truncated_documents": None,
            "truncated_query_tokens": None,
            "cached_documents": None,
        },
        "degraded": "second best",
        "unscored": [],
    }


@both
async def test_events_turn_into_plain_data(backend, events, sync):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    reranked = await call(backend.build(top_n=2), nodes, sync=sync)
    start, end = events.of(ReRankStartEvent)[0], events.of(ReRankEndEvent)[0]
    assert len(start.model_dump(mode="json")["nodes"]) == 3
    assert [n["score"] for n in end.model_dump(mode="json")["nodes"]] == [n.score for n in reranked]
    assert json.loads(json.dumps(end.tags)) == end.tags


@both
async def test_the_usage_is_that_of_the_whole_call(backend, events, sync):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    await call(backend.build(top_n=1), nodes, sync=sync)
    tags = events.of(ReRankEndEvent)[0].tags["jina_rerank"]
    assert tags["model"] == backend.model
    assert tags["usage"]["documents"] == 3
    if backend.is_remote:
        assert tags["usage"]["tokens"] == count_tokens("q", TEXTS)
    else:
        assert tags["usage"]["tokens"] > 3
    assert tags["usage"]["cached_documents"] is None
    assert (tags["degraded"], tags["unscored"]) == (None, [])


@both
async def test_what_came_from_a_cache_is_told(backend, events, sync):
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    rerank = JinaRerank(reranker=Reranker(CachedScorer(backend.reranker().scorer)))
    for _ in range(2):
        await call(rerank, nodes, sync=sync)
    first, second = (end.tags["jina_rerank"]["usage"] for end in events.of(ReRankEndEvent))
    assert (first["cached_documents"], second["cached_documents"]) == (0, 3)
    assert first["tokens"] > second["tokens"] == 0


@both
async def test_events_hang_on_a_span_of_the_rerankers_own(backend, events, spans, sync):
    await ask(engine_with(backend.build()), sync=sync)
    method = "_postprocess_nodes" if sync else "_apostprocess_nodes"
    (span,) = [s for s in spans.completed_spans if s.id_.startswith("JinaRerank.")]
    assert span.id_.startswith(f"JinaRerank.{method}-")
    assert span.parent_id.startswith("RetrieverQueryEngine.")
    for kind in (ReRankStartEvent, ReRankEndEvent):
        (event,) = events.of(kind)
        assert event.span_id == span.id_


async def test_a_subclass_gets_no_second_span(by_number, numbers, spans):
    class Louder(JinaRerank):
        async def _apostprocess_nodes(self, nodes, query_bundle=None):
            return await super()._apostprocess_nodes(nodes, query_bundle)

    rerank = Louder(reranker=by_number()._reranker)
    await rerank.apostprocess_nodes(numbers, query_str="q")
    methods = [span.id_.rsplit("-", 5)[0] for span in spans.completed_spans]
    # One for the override and one for the method it calls, which is LlamaIndex's own rule.
    assert methods == ["Louder._apostprocess_nodes"] * 2


@both
async def test_an_error_drops_the_span_and_ends_the_callback(backend, numbers, events, spans, sync):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    rerank = backend.build(callback_manager=CallbackManager([debug]))
    with pytest.raises(InputError, match="blank"):
        await call(rerank, numbers, sync=sync, query=" ")
    assert [s.id_.split(".")[0] for s in spans.dropped_spans] == ["JinaRerank"]
    assert spans.open_spans == {}
    assert events.of(ReRankEndEvent) == []
    ((_, ended),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert isinstance(ended.payload[EventPayload.EXCEPTION], InputError)


async def test_cancelling_drops_the_span_and_leaves_the_reranker_usable(numbers, spans):
    class Slow(FakeScorer):
        def __init__(self):
            super().__init__(lambda _, text: float(text))
            self.started, self.cancelled = asyncio.Event(), False

        async def ascore(self, requests, on_scored=None):
            if self.started.is_set():
                return self.score(requests, on_scored)
            self.started.set()
            try:
                return await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

    scorer = Slow()
    rerank = JinaRerank(reranker=Reranker(scorer))
    task = asyncio.create_task(rerank.apostprocess_nodes(numbers, query_str="q"))
    await scorer.started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scorer.cancelled
    assert [s.id_.split(".")[0] for s in spans.dropped_spans] == ["JinaRerank"]
    assert (await rerank.apostprocess_nodes(numbers, query_str="q"))[0].text == "0.9"


@both
async def test_the_older_callbacks(backend, numbers, sync):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    rerank = backend.build(callback_manager=CallbackManager([debug]))
    reranked = await call(rerank, numbers, sync=sync)
    ((start, end),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert start.payload == {
        EventPayload.NODES: numbers,
        EventPayload.MODEL_NAME: backend.model,
        EventPayload.QUERY_STR: "q",
        EventPayload.TOP_K: 4,
    }
    assert end.payload == {EventPayload.NODES: reranked}


@both
async def test_the_callbacks_are_those_of_the_engine_that_took_it_last(backend, sync):
    own, first, second = (LlamaDebugHandler(print_trace_on_end=False) for _ in range(3))
    rerank = backend.build(callback_manager=CallbackManager([own]))
    engine_with(rerank, CallbackManager([first]))
    engine = engine_with(rerank, CallbackManager([second]))
    await ask(engine, sync=sync)
    counts = [len(h.get_event_pairs(CBEventType.RERANKING)) for h in (own, first, second)]
    assert counts == [0, 0, 1]


@both
async def test_no_nodes_tell_nothing(backend, events, sync):
    assert await call(backend.build(), [], sync=sync) == []
    assert events.of(ReRankStartEvent) == []
