"""`backend="remote"`: requests, failures, and what the official integration gets wrong."""

import asyncio
import copy
import gc
import socket
import threading
import time
import warnings

import dialect_answers
import pytest
from faults import CloseIdle, Hang, Html, RateLimited, ResetBefore, Right, Status
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from jina_rerank import (
    AuthenticationError,
    ConnectionFailedError,
    FallbackScorer,
    InsufficientBalanceError,
    LocalScorer,
    RateLimitError,
    RemoteScorer,
    RequestTimeoutError,
    Reranker,
    RerankError,
    ResponseError,
    ServerError,
)
from langchain_jina_rerank import JinaRerank

QUERY = "how to store coffee beans"
KEY = "jina_secret-0123456789"
ENVIRONMENT_KEY = "jina_of-the-environment-0123456789"
DIALECTS = {"jina": "/v1/rerank", "cohere": "/v2/rerank", "tei": "/rerank"}
DIALECTS["sagemaker"] = "/invocations"


def ids(documents):
    return [document.id for document in documents]


def scores(documents):
    return [document.metadata["relevance_score"] for document in documents]


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


# Requests


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


# Failures


def refused():
    """An address where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


FAILURES = {
    "401": (Status(401, dialect_answers.INVALID_KEY), {}, AuthenticationError),
    "402": (Status(402, dialect_answers.INSUFFICIENT_BALANCE), {}, InsufficientBalanceError),
    "429": (RateLimited(retry_after="40"), {}, RateLimitError),
    "hang": (Hang(), {"timeout": 0.3}, RequestTimeoutError),
    "html 502": (Html(502), {"max_retries": 0}, ServerError),
    "html 200": (Html(200), {}, ResponseError),
    "error of another shape": (
        Status(500, dialect_answers.openai("internal_error", "told by the service")),
        {"max_retries": 0},
        ServerError,
    ),
    "reset": (ResetBefore(), {"max_retries": 0}, ConnectionFailedError),
    "refused": (None, {"max_retries": 0}, ConnectionFailedError),
}


@pytest.mark.parametrize(("fault", "settings", "error"), FAILURES.values(), ids=FAILURES)
async def test_a_failure_is_ours_unwrapped_traced_and_within_its_deadline(
    search, remote, service, retriever, fault, settings, error
):
    service.default = fault
    compressor = remote(**settings)
    if fault is None:
        compressor = compressor.model_copy(update={"base_url": refused()})
    begun = time.monotonic()
    with pytest.raises(RerankError) as caught:
        await search(compressor)
    # A busy machine is no failure; a wait for Retry-After or for the default timeouts would be.
    assert time.monotonic() - begun < 15
    assert type(caught.value) is error
    if fault is not None:
        assert service.received == 1

    collector = RunCollectorCallbackHandler()
    reranking = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=retriever)
    with pytest.raises(error):
        await reranking.ainvoke(QUERY, config={"callbacks": [collector]})
    (root,) = collector.traced_runs
    assert error.__name__ in root.child_runs[1].error


async def test_a_failure_tells_status_code_request_and_wait(search, remote, service):
    service.default = RateLimited("tokens", retry_after="3600")
    with pytest.raises(RateLimitError) as caught:
        await search(remote())
    assert (caught.value.status, caught.value.retry_after, caught.value.kind) == (
        429,
        3600.0,
        "tokens",
    )
    assert caught.value.request_id == dialect_answers.REQUEST_ID


async def test_what_may_pass_is_tried_again_twice_unless_said_otherwise(
    search, remote, service, documents
):
    busy = Status(503, headers={"retry-after": "0"})
    service.script(busy, RateLimited(retry_after="0"))
    assert ids(await search(remote())) == best_first(documents)
    assert service.received == 3
    service.reset()
    service.script(busy, busy, busy)
    with pytest.raises(ServerError):
        await search(remote())
    assert service.received == 3
    service.reset()
    service.script(busy)
    with pytest.raises(ServerError):
        await search(remote(max_retries=0))
    assert service.received == 1


async def test_a_connection_that_the_service_has_closed_costs_no_failure(
    search, remote, service, documents
):
    service.default = CloseIdle()
    compressor = remote(max_retries=0)
    for _ in range(3):
        assert ids(await search(compressor)) == best_first(documents)


async def test_a_fallback_answers_says_so_and_is_not_emptied_by_a_threshold(
    search, service, documents
):
    service.default = Html(502)
    remote = RemoteScorer(base_url=service.url, max_retries=0)
    scorer = FallbackScorer(remote, LocalScorer(), cooldown=600.0)
    compressor = JinaRerank(reranker=Reranker(scorer), threshold=1.5)
    found = await search(compressor)
    local = Reranker().rank(QUERY, [document.page_content for document in documents])
    assert ids(found) == [documents[hit.index].id for hit in local]
    for document in found:
        assert "ServerError" in document.metadata["relevance_degraded"]
        assert "jina-rerank-mini" in document.metadata["relevance_degraded"]
        assert "relevance_unscored" not in document.metadata
    collector = RunCollectorCallbackHandler()
    compressor.compress_documents(documents, QUERY, callbacks=[collector])
    (run,) = collector.traced_runs
    assert run.outputs["model"] == "jina-rerank-mini"
    assert "left alone for a while" in run.outputs["degraded"]
    assert run.outputs["unscored"] == []
    assert service.received == 1


async def test_a_fallback_does_not_hide_a_key_that_is_not_accepted(search, service):
    service.default = Status(401, dialect_answers.INVALID_KEY)
    scorer = FallbackScorer(RemoteScorer(base_url=service.url), LocalScorer())
    with pytest.raises(AuthenticationError):
        await search(JinaRerank(reranker=Reranker(scorer)))


# The official integration: what it gets wrong, and what it gets right


@pytest.mark.parametrize(
    "shape",
    [
        Right(document="string"),
        Right(document="object"),
        Right(document="absent"),
        Right(order="shuffled"),
        Right(order="given"),
        Right(drop=["model"]),
        Right(drop=["usage"]),
        Right(drop=["model", "usage", "object"]),
        Right(extra={"usage": None}, result_extra={"note": 1}),
    ],
    ids=repr,
)
async def test_every_shape_of_a_right_answer_is_read(search, remote, service, documents, shape):
    service.default = shape
    found = await search(remote(top_n=2))
    assert ids(found) == best_first(documents)[:2]
    assert scores(found) == sorted(scores(found), reverse=True)


@pytest.fixture
def official(monkeypatch, service):
    """Makes the official compressor, for the service."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is no longer maintained
        from langchain_community.document_compressors import jina_rerank
    monkeypatch.setattr(jina_rerank, "JINA_API_URL", f"{service.url}/v1/rerank")
    made = []

    def make(**settings):
        made.append(jina_rerank.JinaRerank(jina_api_key=KEY, **settings))
        return made[-1]

    yield make
    for each in made:
        each.session.close()


@pytest.mark.parametrize("top_n", [1, 2, 20, None])
def test_the_official_client_agrees(official, remote, top_n):
    documents = [
        Document(id=str(i), page_content=f"document {i}", metadata={"i": i}) for i in range(20)
    ]
    theirs = official(top_n=top_n).compress_documents(documents, QUERY)
    ours = remote(top_n=top_n).compress_documents(documents, QUERY)
    assert len(ours) == (top_n or 20)
    assert [(d.page_content, d.metadata) for d in ours] == [
        (d.page_content, d.metadata) for d in theirs
    ]
