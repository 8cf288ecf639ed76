"""`backend="remote"`: requests, connections, and who waits for them."""

import asyncio
import copy
import gc
import threading
import time

import dialect_answers
import pytest
from faults import Hang, Right
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from langchain_jina_rerank import JinaRerank

QUERY = "how to store coffee beans"
KEY = "jina_secret-0123456789"
ENVIRONMENT_KEY = "jina_of-the-environment-0123456789"
DIALECTS = {"jina": "/v1/rerank", "cohere": "/v2/rerank", "tei": "/rerank"}
DIALECTS["sagemaker"] = "/invocations"


def ids(documents):
    return [document.id for document in documents]


def best_first(documents, query=QUERY):
    by_id = {d.id: dialect_answers.score(query, d.page_content) for d in documents}
    return sorted(by_id, key=by_id.__getitem__, reverse=True)


def authorization(service):
    return [request.headers.get("authorization") for request in service.requests]


async def until(condition, what):
    """Wait for something that another thread or another machine does."""
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, f"waited in vain for {what}"
        await asyncio.sleep(0.005)


async def test_a_request_asks_for_the_scores_of_all_documents_and_for_nothing_else(
    search, remote, service, documents
):
    await search(remote(top_n=1, api_key=KEY))
    (request,) = service.requests
    assert request.path == "/v1/rerank"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json == {
        "model": "jina-reranker-v3.5",
        "query": QUERY,
        "documents": [document.page_content for document in documents],
        "return_documents": False,
    }


def test_the_model_is_asked_for_by_its_name(remote, service, documents):
    collector = RunCollectorCallbackHandler()
    remote(model="some-model").compress_documents(documents, QUERY, callbacks=[collector])
    assert service.requests[0].json["model"] == "some-model"
    assert collector.traced_runs[0].outputs["model"] == "some-model"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "given", [{}, {"api_key": None}, {"api_key": KEY}], ids=["left out", "None", "given"]
)
async def test_every_dialect_ranks_alike_and_only_jinas_gets_the_key_of_the_environment(
    monkeypatch, search, remote, service, documents, dialect, given
):
    monkeypatch.setenv("JINA_API_KEY", ENVIRONMENT_KEY)
    compressor = remote(dialect=dialect, model="some-model", **given)
    assert ids(await search(compressor)) == best_first(documents)
    assert service.requests[0].path == DIALECTS[dialect]
    expected = given.get("api_key") or (ENVIRONMENT_KEY if dialect == "jina" else None)
    assert authorization(service) == [expected and f"Bearer {expected}"]


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/rerank", "/rerank"])
def test_the_address_may_hold_the_path_of_the_endpoint(service, documents, path):
    compressor = JinaRerank(backend="remote", base_url=service.url + path)
    assert ids(compressor.compress_documents(documents, QUERY)) == best_first(documents)
    expected = "/rerank" if path == "/rerank" else "/v1/rerank"
    assert service.requests[0].path == expected


def test_more_documents_than_fit_one_request_are_ranked_as_one_list(remote, service):
    documents = [Document(id=str(i), page_content=f"document {i}") for i in range(600)]
    found = remote().compress_documents(documents, QUERY)
    assert ids(found) == best_first(documents)
    assert sorted(len(request.json["documents"]) for request in service.requests) == [88, 512]


async def test_calls_and_copies_for_single_calls_share_connections(search, remote, service):
    compressor = remote()
    for _ in range(3):
        await search(compressor)
        await search(compressor.model_copy(update={"top_n": 1}))
        await search(copy.deepcopy(compressor))
    assert service.received == 9
    assert service.connections == 1


def test_a_copy_with_another_setting_of_the_model_uses_it(remote, service, documents):
    compressor = remote(api_key=KEY)
    changed = compressor.model_copy(update={"model": "another", "top_n": 1})
    rotated = compressor.model_copy(update={"api_key": "jina_new-0123456789"})
    for each in (changed, rotated, compressor):
        each.compress_documents(documents, QUERY)
    assert [
        (request.json["model"], request.headers["authorization"]) for request in service.requests
    ] == [
        ("another", f"Bearer {KEY}"),
        ("jina-reranker-v3.5", "Bearer jina_new-0123456789"),
        ("jina-reranker-v3.5", f"Bearer {KEY}"),
    ]


async def test_closing_closes_the_connections_when_the_last_copy_has_let_go(
    remote, service, documents
):
    for close in (JinaRerank.close, lambda c: asyncio.run(c.aclose())):
        compressor = remote()
        copied = compressor.model_copy(update={"top_n": 1})
        copied.compress_documents(documents, QUERY)
        held = copied._lease.reranker  # or being forgotten would close it
        await asyncio.to_thread(close, compressor)
        assert service.open_connections == 1
        await asyncio.to_thread(close, copied)
        await until(lambda: service.open_connections == 0, "the connection to close")
        del held


async def test_a_copy_that_was_forgotten_keeps_no_connection_open(remote, service, documents):
    compressor = remote()
    for _ in range(3):
        compressor.model_copy(update={"top_n": 1}).compress_documents(documents, QUERY)
    gc.collect()
    assert service.open_connections == 1
    compressor.close()
    await until(lambda: service.open_connections == 0, "the connection to close")


async def test_connections_of_a_compressor_that_was_forgotten_are_closed(
    remote, service, documents
):
    remote().compress_documents(documents, QUERY)
    gc.collect()
    await until(lambda: service.open_connections == 0, "the connection to close")


def test_warming_up_sends_nothing(remote, service):
    compressor = remote()
    compressor.warm_up()
    assert service.connections == 0


async def test_the_event_loop_is_free_while_the_service_thinks(remote, service, documents):
    class Gate:
        """An answer that waits until the event loop of the test opens it."""

        def __init__(self):
            self.opened = threading.Event()

        async def answer(self, exchange):
            await asyncio.to_thread(self.opened.wait, timeout=60)
            await Right().answer(exchange)

    gate = service.default = Gate()
    searches = [
        asyncio.create_task(remote(top_n=1).acompress_documents(documents, QUERY)) for _ in range(3)
    ]
    await until(lambda: service.in_flight == 3, "three requests at the same time")
    assert not any(search.done() for search in searches)
    gate.opened.set()
    assert [ids(found) for found in await asyncio.gather(*searches)] == [
        best_first(documents)[:1]
    ] * 3


async def test_cancelling_leaves_neither_a_request_nor_a_connection(
    remote, service, documents, retriever
):
    with_one = remote()
    await with_one.acompress_documents(documents, QUERY)
    open_before = service.open_connections
    service.default = Hang()
    reranking = ContextualCompressionRetriever(base_compressor=remote(), base_retriever=retriever)
    chain = RunnableLambda(lambda query: query) | reranking
    for begin in (lambda: chain.ainvoke(QUERY), lambda: chain.abatch([QUERY] * 3)):
        task = asyncio.create_task(begin())
        await until(lambda: service.in_flight > 0, "a request")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: service.in_flight == 0, "the request to end")
        await until(lambda: service.open_connections == open_before, "the connection to close")
