"""A ranker and its service: requests, answers, failures."""

import asyncio
import socket
import time

import pytest
from faults import Hang, Html, RateLimited, Right, Status
from haystack import Document, Pipeline
from haystack.core.errors import PipelineRuntimeError

from haystack_integrations.components.rankers.jina_rerank import JinaRanker
from jina_rerank import (
    AuthenticationError,
    ConnectionFailedError,
    FallbackScorer,
    LocalScorer,
    RateLimitError,
    RemoteScorer,
    RequestTimeoutError,
    Reranker,
    ResponseError,
    RetrievalOrder,
    ServerError,
)

QUERY = "How is coffee made?"
DOCUMENTS = [
    Document(id="tea", content="Tea is steeped."),
    Document(id="beans", content="Coffee beans are roasted."),
    Document(id="milk", content="Milk is foamed."),
]
FAILURES = [
    pytest.param(Status(401), AuthenticationError, id="401"),
    pytest.param(RateLimited(retry_after="120"), RateLimitError, id="429"),
    pytest.param(Hang(), RequestTimeoutError, id="hang"),
    pytest.param(Html(502), ServerError, id="html-502"),
    pytest.param(Html(200), ResponseError, id="html-200"),
]


def a_pipeline(ranker):
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    return pipeline


def inputs():
    return {"ranker": {"query": QUERY, "documents": DOCUMENTS}}


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class TestRequests:
    def test_the_default_model_is_the_services(self, run, server, remote):
        output = run(remote(), QUERY, DOCUMENTS)
        assert server.requests[-1].path == "/v1/rerank"
        assert server.requests[-1].json["model"] == "jina-reranker-v3.5"
        assert output["meta"]["model"] == "jina-reranker-v3.5"

    def test_a_model_that_was_named_is_sent(self, run, server, remote):
        output = run(remote(model="jina-reranker-v2-base-multilingual"), QUERY, DOCUMENTS)
        assert server.requests[-1].json["model"] == "jina-reranker-v2-base-multilingual"
        assert output["meta"]["model"] == "jina-reranker-v2-base-multilingual"

    @pytest.mark.parametrize(
        ("dialect", "path"),
        [
            ("jina", "/v1/rerank"),
            ("cohere", "/v2/rerank"),
            ("tei", "/rerank"),
            ("sagemaker", "/invocations"),
        ],
    )
    def test_every_dialect_is_spoken(self, run, server, remote, dialect, path):
        expected = run(remote(), QUERY, DOCUMENTS)["documents"]
        output = run(remote(model="m", dialect=dialect), QUERY, DOCUMENTS)
        assert server.requests[-1].path == path
        assert [d.id for d in output["documents"]] == [d.id for d in expected]

    def test_a_failure_that_passes_is_tried_again(self, run, server, remote):
        server.script(Status(503))
        assert len(run(remote(), QUERY, DOCUMENTS)["documents"]) == 3
        assert server.received == 2

    def test_or_not_if_so_told(self, run, server, remote):
        server.script(Status(503))
        with pytest.raises(ServerError):
            run(remote(max_retries=0), QUERY, DOCUMENTS)
        assert server.received == 1


class TestFailures:
    @pytest.mark.parametrize(("fault", "expected"), FAILURES)
    def test_they_arrive_as_what_they_are(self, run, server, remote, fault, expected):
        server.default = fault
        timeout = 0.5 if isinstance(fault, Hang) else 10.0
        started = time.monotonic()
        with pytest.raises(expected) as caught:
            run(remote(timeout=timeout, max_retries=1), QUERY, DOCUMENTS)
        assert type(caught.value) is expected
        assert time.monotonic() - started < timeout + 5

    @pytest.mark.parametrize(("fault", "expected"), FAILURES)
    def test_a_pipeline_keeps_them_as_the_cause(self, execute, server, remote, fault, expected):
        server.default = fault
        timeout = 0.5 if isinstance(fault, Hang) else 10.0
        pipeline = a_pipeline(remote(timeout=timeout, max_retries=0))
        with pytest.raises(PipelineRuntimeError, match="ranker") as caught:
            execute(pipeline, inputs())
        assert type(caught.value.__cause__) is expected

    def test_nobody_there(self, run, execute):
        ranker = JinaRanker(
            backend="remote", base_url=f"http://127.0.0.1:{closed_port()}", max_retries=1
        )
        started = time.monotonic()
        with pytest.raises(ConnectionFailedError):
            run(ranker, QUERY, DOCUMENTS)
        assert time.monotonic() - started < 10
        with pytest.raises(PipelineRuntimeError) as caught:
            execute(a_pipeline(ranker), inputs())
        assert type(caught.value.__cause__) is ConnectionFailedError

    def test_the_service_is_quoted(self, run, server, remote):
        server.default = RateLimited(retry_after="120")
        with pytest.raises(RateLimitError) as caught:
            run(remote(), QUERY, DOCUMENTS)
        assert (caught.value.status, caught.value.retry_after) == (429, 120.0)
        assert server.received == 1

    def test_the_next_run_is_as_if_nothing_had_been(self, run, server, remote):
        ranker = remote(max_retries=0)
        expected = run(ranker, QUERY, DOCUMENTS)
        server.script(Html(502))
        with pytest.raises(ServerError):
            run(ranker, QUERY, DOCUMENTS)
        assert run(ranker, QUERY, DOCUMENTS) == expected


class TestCancelling:
    @pytest.mark.parametrize("where", ["alone", "in a pipeline"])
    async def test_no_connection_stays_open(self, server, remote, eventually, where):
        server.default = Hang()
        ranker = remote()
        if where == "alone":
            call = ranker.run_async(QUERY, DOCUMENTS)
        else:
            call = a_pipeline(ranker).run_async(inputs())
        task = asyncio.create_task(call)
        assert await asyncio.to_thread(eventually, lambda: server.in_flight == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(eventually, lambda: server.open_connections == 0)
        assert server.in_flight == 0
        server.default = Right()
        assert len((await ranker.run_async(QUERY, DOCUMENTS))["documents"]) == 3


class TestSecondBest:
    @pytest.mark.torch
    def test_a_fallback_says_so_and_is_not_emptied(self, run, server):
        server.default = Status(503)
        service = RemoteScorer(base_url=server.url, max_retries=0)
        ranker = JinaRanker(
            reranker=Reranker(FallbackScorer(service, LocalScorer())), score_threshold=1.5
        )
        output = run(ranker, QUERY, DOCUMENTS)
        assert output["documents"][0].id == "beans"
        assert len(output["documents"]) == 3
        assert output["meta"]["model"] == "jina-rerank-mini"
        assert "jina-reranker-v3.5 failed" in output["meta"]["degraded"]
        assert output["meta"]["unscored"] == []

    def test_the_order_of_retrieval_is_unscored(self, run, server):
        server.default = Status(503)
        service = RemoteScorer(base_url=server.url, max_retries=0)
        ranker = JinaRanker(reranker=Reranker(FallbackScorer(service, RetrievalOrder())), top_k=2)
        output = run(ranker, QUERY, DOCUMENTS)
        assert [document.id for document in output["documents"]] == ["tea", "beans"]
        assert output["meta"]["model"] == "retrieval-order"
        # All of them, those that top_k cut off included, as in Ranking.unscored.
        assert output["meta"]["unscored"] == ["tea", "beans", "milk"]

    def test_part_of_an_answer_names_what_is_missing(self, run, server):
        def choose(request):
            return Status(500) if "Coffee" in request.body.decode() else Right()

        server.choose = choose
        service = RemoteScorer(
            base_url=server.url, max_documents=1, max_retries=0, allow_partial=True
        )
        # Twice the same at first: the ids must be those of the documents that were ranked.
        documents = [DOCUMENTS[0], *DOCUMENTS]
        output = run(JinaRanker(reranker=Reranker(service)), QUERY, documents)
        assert output["meta"]["unscored"] == ["beans"]
        assert output["documents"][-1].id == "beans"
        assert "1 of 3 documents were not scored" in output["meta"]["degraded"]
        assert output["meta"]["usage"]["documents"] == 2
