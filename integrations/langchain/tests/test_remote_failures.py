"""`backend="remote"`: a service that fails, is tried again, or is stood in for."""

import asyncio
import socket
import time

import dialect_answers
import pytest
from faults import CloseIdle, Hang, Html, RateLimited, ResetBefore, Status
from langchain_classic.retrievers import ContextualCompressionRetriever
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


def ids(documents):
    return [document.id for document in documents]


def best_first(documents, query=QUERY):
    by_id = {d.id: dialect_answers.score(query, d.page_content) for d in documents}
    return sorted(by_id, key=by_id.__getitem__, reverse=True)


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
        # A request that crosses the end of the connection would be lost: nothing is tried again.
        while service.open_connections:  # noqa: ASYNC110 - another thread closes them
            await asyncio.sleep(0.001)


@pytest.mark.torch
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


@pytest.mark.torch
async def test_a_fallback_does_not_hide_a_key_that_is_not_accepted(search, service):
    service.default = Status(401, dialect_answers.INVALID_KEY)
    scorer = FallbackScorer(RemoteScorer(base_url=service.url), LocalScorer())
    with pytest.raises(AuthenticationError):
        await search(JinaRerank(reranker=Reranker(scorer)))
