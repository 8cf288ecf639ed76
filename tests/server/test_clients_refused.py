"""Errors that clients get from a service that cannot answer, each in its own dialect."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from aws import wait_until
from holding import HeldScorer
from serving import LiveService

from jina_rerank import RemoteScorer, Reranker
from jina_rerank.errors import RateLimitError, ServerError
from jina_rerank.server import ServedModel
from jina_rerank.testing import FakeScorer

QUERY, DOCUMENTS = "what is a panda?", ["the panda", "paris"]

REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere": ("/v2/rerank", {"model": "fake", "query": QUERY, "documents": DOCUMENTS}),
    "tei": ("/rerank", {"query": QUERY, "texts": DOCUMENTS}),
    "sagemaker": ("/invocations", {"data": {"query": QUERY, "documents": DOCUMENTS}}),
}

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "vllm": ("/score", {"text_1": QUERY, "text_2": DOCUMENTS}),
    "jina": ("/rerank", {"query": QUERY, "documents": DOCUMENTS}),
}
"""Requests that our client does not send."""

every_dialect = pytest.mark.parametrize("dialect", [*REQUESTS, *OTHERS])


def unread(dialect: str) -> str:
    """The dialect that answers before a body has been read: that of the path."""
    return "tei" if dialect == "jina" else dialect


def post(service: LiveService, dialect: str, **more: Any) -> httpx.Response:
    path, body = (REQUESTS | OTHERS)[dialect]
    return httpx.post(f"{service.url}{path}", json=body, timeout=30, **more)


def serve(scorer: FakeScorer, **settings: Any) -> LiveService:
    return LiveService([ServedModel("fake", Reranker(scorer))], **settings)


def check(reply: httpx.Response, dialect: str, status: int, error_type: str, code: str) -> None:
    """The envelope is the dialect's own, and says so much as it can."""
    assert reply.status_code == status
    body, request_id = reply.json(), reply.headers["x-request-id"]
    if dialect == "cohere":
        assert body == {"id": request_id, "message": body["message"]}
    elif dialect == "tei":
        assert body == {"error": body["error"], "error_type": error_type}
    elif dialect == "vllm":
        kinds = {401: "AuthenticationError", 429: "RateLimitError"}
        kind = kinds.get(status, "BadRequestError" if status < 500 else "InternalServerError")
        expected = {"message": body["error"]["message"], "type": kind, "param": None}
        assert body == {"error": expected | {"code": status}}
    else:
        if dialect == "jina" and code == "INTERNAL_ERROR":  # the hosted service nests it
            body = body["detail"] | {"detail": body["detail"].pop("message")}
        assert body == {"detail": body["detail"], "code": code, "request_id": request_id}


def when_one_is_held(service: LiveService, dialect: str, then: Callable[[], object]) -> None:
    """Do something while a request is being answered."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, service, dialect)
        metrics = f"{service.url}/metrics"
        wait_until(lambda: "jina_rerank_queued_requests 1.0" in httpx.get(metrics).text)
        then()
    assert first.result().status_code == 200


@every_dialect
def test_a_full_queue(dialect: str) -> None:
    def ask() -> None:
        reply = post(service, dialect)
        check(reply, dialect, 429, "Overloaded", "RATE_CONCURRENCY_LIMIT_EXCEEDED")
        assert int(reply.headers["retry-after"]) >= 1
        if dialect in REQUESTS:
            ours = RemoteScorer("fake", base_url=service.url, dialect=dialect, max_retries=0)
            with Reranker(ours) as remote, pytest.raises(RateLimitError) as caught:
                remote.rank(QUERY, DOCUMENTS)
            assert caught.value.retry_after == float(reply.headers["retry-after"])
        held.let_go()

    with serve(held := HeldScorer(), max_queued_tokens=1) as service, held:
        when_one_is_held(service, dialect, ask)


def test_a_full_queue_and_the_client_of_cohere() -> None:
    cohere = pytest.importorskip("cohere")

    def ask() -> None:
        with httpx.Client() as client:  # its own would stay open
            official = cohere.ClientV2(api_key="k", base_url=service.url, httpx_client=client)
            with pytest.raises(cohere.errors.TooManyRequestsError) as caught:
                official.rerank(
                    model="fake",
                    query=QUERY,
                    documents=DOCUMENTS,
                    request_options={"max_retries": 0},
                )
        assert "queue" in caught.value.body["message"]
        held.let_go()

    with serve(held := HeldScorer(), max_queued_tokens=1) as service, held:
        when_one_is_held(service, "cohere", ask)


@every_dialect
def test_a_deadline_that_passes(dialect: str) -> None:
    with serve(held := HeldScorer(), deadline=0.1) as service, held:
        check(post(service, dialect), dialect, 504, "Backend", "SERVICE_TIMEOUT")


@every_dialect
def test_a_service_that_is_about_to_end(dialect: str) -> None:
    with serve(FakeScorer()) as service:
        service.engine.stop_accepting()
        check(post(service, dialect), dialect, 503, "Unhealthy", "SERVICE_UNAVAILABLE")


@every_dialect
def test_a_model_that_fails(dialect: str) -> None:
    def fail(query: str, document: str) -> float:
        if query == QUERY:  # and not what the service warms itself up with
            raise ValueError(f"of {query} and {document}")
        return 0.5

    with serve(FakeScorer(fail)) as service:
        reply = post(service, dialect)
        if dialect in REQUESTS:
            ours = RemoteScorer("fake", base_url=service.url, dialect=dialect, max_retries=0)
            with Reranker(ours) as remote, pytest.raises(ServerError):
                remote.rank(QUERY, DOCUMENTS)
    # TEI's own says by its status that what failed is behind it.
    check(reply, dialect, 424 if dialect == "tei" else 500, "Backend", "INTERNAL_ERROR")
    assert "panda" not in reply.text


@every_dialect
def test_a_stranger(dialect: str) -> None:
    with serve(FakeScorer(), keys="tests:" + "k" * 20) as service:
        reply = post(service, dialect)
        check(reply, unread(dialect), 401, "Validation", "AUTH_MISSING_API_KEY")
        assert reply.headers["www-authenticate"] == "Bearer"
        known = {"authorization": "Bearer " + "k" * 20}
        assert post(service, dialect, headers=known).status_code == 200


@every_dialect
def test_a_compressed_body(dialect: str) -> None:
    with serve(FakeScorer()) as service:
        reply = post(service, dialect, headers={"content-encoding": "gzip"})
    check(reply, unread(dialect), 415, "Validation", "INPUT_ENCODING")
