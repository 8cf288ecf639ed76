"""A service that fails: typed errors in time, nothing left open, and degraded answers."""

from __future__ import annotations

import asyncio
import socket
import time
import traceback

import pytest
from dialect_answers import INSUFFICIENT_BALANCE, INVALID_KEY
from faults import EchoKey, Hang, Html, RateLimited, Right, Status
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.retrievers.bm25 import BM25Retriever

from jina_rerank import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    FallbackScorer,
    InsufficientBalanceError,
    LocalScorer,
    RateLimitError,
    RemoteScorer,
    RequestTimeoutError,
    Reranker,
    RetrievalOrder,
    ServerError,
)
from llama_index.postprocessor.jina_rerank import JinaRerank

KEY = "jina_0123456789abcdef"
TEXTS = ["cup of tea", "cup of coffee", "cup of milk"]

both = pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])


async def call(rerank, nodes, *, sync):
    if sync:
        return rerank.postprocess_nodes(nodes, query_str="q")
    return await rerank.apostprocess_nodes(nodes, query_str="q")


def engine_with(rerank):
    retriever = BM25Retriever.from_defaults(
        nodes=[TextNode(text=text) for text in TEXTS], similarity_top_k=3
    )
    return RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[rerank])


async def ask(rerank, *, sync):
    engine = engine_with(rerank)
    return engine.query("cup") if sync else await engine.aquery("cup")


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            # Connections are closed by another thread, which has nothing to tell this loop.
            await asyncio.sleep(0.01)


FAILURES = {
    "401": (Status(401, INVALID_KEY), AuthenticationError, 1),
    "403": (Status(403, INSUFFICIENT_BALANCE), InsufficientBalanceError, 1),
    "429": (RateLimited(retry_after="120"), RateLimitError, 1),
    "502": (Html(502), ServerError, 2),
}


@both
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_refusal_reaches_the_caller_as_it_is(remote, server, failure, sync):
    server.default, expected, requests = FAILURES[failure]
    started = time.monotonic()
    with pytest.raises(expected) as caught:
        await ask(remote(timeout=8, max_retries=1), sync=sync)
    assert time.monotonic() - started < 8
    assert type(caught.value) is expected
    assert caught.value.status == int(failure)
    assert server.received == requests
    if expected is RateLimitError:
        # The service asks for longer than there is, so the caller is told and not kept.
        assert caught.value.retry_after == 120
        assert caught.value.kind == "requests"


@both
async def test_silence_ends_at_the_deadline(remote, server, sync):
    server.default = Hang()
    started = time.monotonic()
    with pytest.raises(RequestTimeoutError, match=r"timeout=0\.5 s") as caught:
        await ask(remote(timeout=0.5), sync=sync)
    assert type(caught.value) is RequestTimeoutError
    assert 0.4 < time.monotonic() - started < 5
    await until(lambda: server.open_connections == 0)


@both
async def test_a_refused_connection_is_told_at_once(remote, sync):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(ConnectionFailedError, match=url) as caught:
        await ask(remote(base_url=url, timeout=8, max_retries=0), sync=sync)
    assert type(caught.value) is ConnectionFailedError
    assert time.monotonic() - started < 8


@both
async def test_a_failure_drops_the_span_and_ends_the_callback(
    remote, server, numbers, events, spans, sync
):
    server.default = Status(401, INVALID_KEY)
    debug = LlamaDebugHandler(print_trace_on_end=False)
    with pytest.raises(AuthenticationError):
        await call(remote(callback_manager=CallbackManager([debug])), numbers, sync=sync)
    assert [s.id_.split(".")[0] for s in spans.dropped_spans] == ["JinaRerank"]
    assert spans.open_spans == {}
    assert events.of(ReRankEndEvent) == []
    ((_, ended),) = debug.get_event_pairs(CBEventType.RERANKING)
    assert isinstance(ended.payload[EventPayload.EXCEPTION], AuthenticationError)


@both
async def test_a_failure_shows_no_key(remote, server, numbers, sync):
    server.default = EchoKey()
    with pytest.raises(AuthenticationError) as caught:
        await call(remote(), numbers, sync=sync)
    shown = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    # This test's own frame holds fixtures, not keys, so all frames count.
    assert "apostprocess_nodes" in shown or "postprocess_nodes" in shown
    assert KEY not in shown


def test_a_setting_refused_leaves_no_key_in_the_frames_of_the_plugin():
    with pytest.raises(ConfigurationError) as caught:
        JinaRerank(backend="remote", api_key=KEY, timeout=-1)
    frames = [
        frame
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if frame.f_globals["__name__"].startswith("llama_index.postprocessor.jina_rerank")
    ]
    assert frames
    assert all(KEY not in repr(frame.f_locals["settings"]) for frame in frames)
    assert all(KEY not in repr(frame.f_locals["api_key"]) for frame in frames)


async def test_the_loop_turns_while_the_service_is_silent_and_cancelling_closes_all(
    remote, server, numbers, spans
):
    rerank = remote()
    server.default = Hang()
    task = asyncio.create_task(rerank.apostprocess_nodes(numbers, query_str="q"))
    # This waits on the same loop, which a blocked one would not let it do.
    await until(lambda: server.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: server.open_connections == 0)
    assert [s.id_.split(".")[0] for s in spans.dropped_spans] == ["JinaRerank"]
    server.default = Right()
    assert len(await rerank.apostprocess_nodes(numbers, query_str="q")) == 4


async def test_an_engine_given_up_leaves_no_connection_open(remote, server):
    engine = engine_with(remote())
    await engine.aquery("cup")
    open_before = server.open_connections
    server.default = Hang()
    task = asyncio.create_task(engine.aquery("cup"))
    await until(lambda: server.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: server.in_flight == 0 and server.open_connections <= open_before)


def with_fallback(server, *others):
    primary = RemoteScorer(base_url=server.url, api_key=KEY, max_retries=0)
    return Reranker(FallbackScorer(primary, *others))


@both
@pytest.mark.torch
async def test_a_fallback_says_so_and_no_threshold_empties_it(
    server, numbers, embedded, events, sync
):
    server.default = Status(503)
    rerank = JinaRerank(reranker=with_fallback(server, LocalScorer()), threshold=0.99999)
    reranked = await call(rerank, numbers, sync=sync)
    expected = embedded.rank("q", [node.text for node in numbers])
    assert [n.text for n in reranked] == [hit.text for hit in expected]
    assert [n.score for n in reranked] == pytest.approx([h.score for h in expected], abs=1e-6)
    (why,) = {n.degraded for n in reranked}
    assert why.startswith("jina-reranker-v3.5 failed (ServerError")
    assert why.endswith("scored by jina-rerank-mini")
    assert not any(n.unscored for n in reranked)
    tags = events.of(ReRankEndEvent)[0].tags["jina_rerank"]
    assert tags["model"] == "jina-rerank-mini"
    assert tags["degraded"] == why


@both
async def test_an_account_without_balance_is_no_outage(server, numbers, sync):
    server.default = Status(403, INSUFFICIENT_BALANCE)
    with pytest.raises(InsufficientBalanceError):
        await call(JinaRerank(reranker=with_fallback(server, RetrievalOrder())), numbers, sync=sync)


@both
async def test_the_order_of_retrieval_is_marked_as_unscored(server, numbers, events, sync):
    server.default = Status(503)
    rerank = JinaRerank(reranker=with_fallback(server, RetrievalOrder()), threshold=0.9, top_n=3)
    reranked = await call(rerank, numbers, sync=sync)
    assert [n.node for n in reranked] == [n.node for n in numbers[:3]]
    assert all(n.unscored for n in reranked)
    assert all(n.degraded.endswith("the order of retrieval was kept") for n in reranked)
    tags = events.of(ReRankEndEvent)[0].tags["jina_rerank"]
    assert tags["unscored"] == [0, 1, 2, 3]
    assert reranked[0].model_dump(mode="json")["unscored"] is True


@both
async def test_what_could_not_be_scored_comes_last_and_is_marked(server, events, sync):
    nodes = [NodeWithScore(node=TextNode(text=t)) for t in ("bad 1", "a", "b", "bad 2", "c")]
    scorer = RemoteScorer(
        base_url=server.url, api_key=KEY, max_documents=1, max_retries=0, allow_partial=True
    )
    server.choose = lambda seen: Status(500) if b"bad" in seen.body else Right()
    reranked = await call(JinaRerank(reranker=Reranker(scorer)), nodes, sync=sync)
    assert [n.text for n in reranked[3:]] == ["bad 1", "bad 2"]
    assert [n.unscored for n in reranked] == [False, False, False, True, True]
    assert all(n.degraded for n in reranked)
    assert events.of(ReRankEndEvent)[0].tags["jina_rerank"]["unscored"] == [0, 3]


def test_a_cutoff_that_follows_knows_nothing_of_degradation(server, numbers):
    # Hence our own threshold, and a sentence in the documentation.
    server.default = Status(503)
    rerank = JinaRerank(reranker=with_fallback(server, RetrievalOrder()))
    reranked = rerank.postprocess_nodes(numbers, query_str="q")
    cutoff = SimilarityPostprocessor(similarity_cutoff=0.6)
    assert len(cutoff.postprocess_nodes(reranked)) == 2
