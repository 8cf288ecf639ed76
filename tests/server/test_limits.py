"""Too much is refused before it costs anything, and hostile requests do no harm."""

from __future__ import annotations

import gzip
import json
import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest
from serving import LiveService

RIGHT = {"query": "panda", "documents": ["a bear", "coffee"]}
JSON = {"content-type": "application/json"}


@pytest.fixture
def small(start) -> LiveService:
    return start(max_body_bytes=2000, max_documents=5, max_request_tokens=100, max_length=64)


def post(service: LiveService, content, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{service.url}/v1/rerank", content=content, headers=JSON | headers, timeout=30
    )


def refused(service: LiveService, status: int, code: str, content, **headers: str) -> None:
    response = post(service, content, **headers)
    assert (response.status_code, response.json()["code"]) == (status, code)
    # It goes on for everybody else.
    assert post(service, json.dumps(RIGHT)).status_code == 200


@pytest.mark.parametrize(
    ("path", "query", "documents"),
    [
        ("/rerank", "query", "texts"),
        ("/score", "text_1", "text_2"),
        ("/v2/rerank", "query", "documents"),
    ],
)
def test_too_many_documents_are_said_in_the_words_of_the_request(
    small, path: str, query: str, documents: str
) -> None:
    body = {"model": small.engine.models[0], query: "panda", documents: ["a"] * 6}
    reply = httpx.post(f"{small.url}{path}", json=body, timeout=30)
    assert reply.status_code == 413
    assert f"{documents}: 6 are more than 5" in reply.text


def test_a_large_body(small) -> None:
    refused(small, 413, "INPUT_TOO_LARGE", b" " * 2001)
    assert post(small, json.dumps(RIGHT).encode().ljust(2000)).status_code == 200


def test_a_large_body_that_does_not_say_so(small) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    refused(small, 413, "INPUT_TOO_LARGE", pieces())


def test_our_client_sends_less_when_told_that_it_was_too_much(small) -> None:
    from jina_rerank import RemoteScorer, Reranker

    documents = [f"document {i}" for i in range(20)]
    with Reranker(RemoteScorer("gated", base_url=small.url, max_retries=0)) as remote:
        assert len(remote.rank("panda", documents)) == 20


def test_many_documents(small) -> None:
    refused(small, 413, "INPUT_TOO_LARGE", json.dumps(RIGHT | {"documents": ["a"] * 6}))


def test_many_tokens(small) -> None:
    refused(small, 413, "INPUT_TOO_LARGE", json.dumps(RIGHT | {"documents": ["a b c d " * 20] * 3}))


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip"])
def test_a_compressed_body_is_not_unpacked(start, encoding: str) -> None:
    service = start()
    bomb = gzip.compress(b" " * 100_000_000)
    tracemalloc.start()
    refused(service, 415, "INPUT_ENCODING", bomb, **{"content-encoding": encoding})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_000,
        b'{"query":' * 50_000,
        b'{"query": "a", "documents": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"",
        b"nonsense",
        b'{"query": "a", "documents": ["b"], "top_n": NaN}',
        b'{"query": "\xff", "documents": ["b"]}',
        b'{"query": "a", "documents": ["b"], "top_n": ' + b"9" * 1_000_000 + b"}",
    ],
    ids=["lists", "objects", "documents", "empty", "text", "nan", "latin", "digits"],
)
def test_what_is_no_json_or_too_deep(start, body: bytes) -> None:
    refused(start(), 400, "INPUT_NOT_JSON", body)


def test_a_million_wrong_documents_are_one_error(start) -> None:
    service = start(max_documents=1_000_000)
    response = post(service, json.dumps(RIGHT | {"documents": [1] * 1_000_000}))
    assert response.status_code == 422
    assert len(response.content) < 2000


def test_what_was_sent_is_not_sent_back(start) -> None:
    body = {"query": ["secret"], "documents": "secret", "top_n": "secret", "model": {"secret": 1}}
    response = post(start(), json.dumps(body))
    assert response.status_code == 422
    assert "secret" not in response.text


def test_a_name_of_a_field_is_not_sent_back(start) -> None:
    service = start()
    for documents in ([{"a": "b"}], [{"SECRET": 1}]):
        body = RIGHT | {"documents": documents, "rank_fields": ["SECRET"]}
        response = post(service, json.dumps(body))
        assert response.status_code == 422
        assert "rank_fields" in response.text
        assert "SECRET" not in response.text


OBJECTS: dict[str, tuple[str, dict[str, object]]] = {
    "jina": ("/v1/rerank", RIGHT | {"documents": [{"text": 1}] * 6}),
    "jina, by another name": ("/rerank", RIGHT | {"documents": [{"text": 1}] * 6}),
    "sagemaker": ("/invocations", {"data": RIGHT | {"documents": [{"text": 1}] * 6}}),
    "sagemaker, queries": ("/invocations", {"data": [{"query": 1}] * 6}),
    "sagemaker, a query": ("/invocations", {"data": [RIGHT | {"documents": [1] * 6}]}),
}


@pytest.mark.parametrize("dialect", OBJECTS)
def test_documents_are_counted_before_they_are_validated(small, dialect: str) -> None:
    """Hundreds of thousands of objects would block the event loop for seconds."""
    path, body = OBJECTS[dialect]
    response = httpx.post(f"{small.url}{path}", json=body, timeout=30)
    assert response.status_code == 413
    assert response.json()["code"] == "INPUT_TOO_LARGE"


def test_windows_of_long_documents_are_counted(start) -> None:
    service = start(max_request_tokens=2000)  # the model reads 512 of a pair
    long = RIGHT | {"documents": ["panda bear " * 1000]}
    assert post(service, json.dumps(long)).status_code == 200
    chunked = long | {"long_documents": "chunk"}
    refused(service, 413, "INPUT_TOO_LARGE", json.dumps(chunked))
    assert post(service, json.dumps(chunked | {"max_doc_length": 10})).status_code == 200


def test_a_model_that_reads_less_than_the_service_allows_is_asked_for_less(start) -> None:
    # Its maximum is 512, and 5 documents of some 3,000 tokens are cut to that.
    service = start(max_length=8192, max_request_tokens=4000)
    assert (
        post(service, json.dumps(RIGHT | {"documents": ["panda " * 2000] * 5})).status_code == 200
    )


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_a_web_page_cannot_ask_without_asking_first(start, kind: str) -> None:
    """Browsers send these to any address, the loopback included, on behalf of any page."""
    content = json.dumps(RIGHT)
    response = post(start(), content, **{"content-type": kind})
    assert response.status_code == 422


def raw(service: LiveService, data: bytes) -> bytes:
    """The answer to bytes that no client would send."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connected:
        answer = b""
        # It may be reset while there is more to send than the service cared to read.
        with suppress(ConnectionResetError, BrokenPipeError):
            connected.sendall(data)
            while piece := connected.recv(65536):
                answer += piece
    return answer


@pytest.mark.parametrize(
    "head",
    [
        b"x: " + b"a" * 1_000_000,
        b"\r\n".join(b"x%d: a" % i for i in range(20_000)),
        b"content-length: -1",
        b"content-length: 9\r\ncontent-length: 10",
        b"x y: a",
    ],
    ids=["long", "many", "negative", "twice", "blank"],
)
def test_abused_headers(start, head: bytes) -> None:
    service = start()
    answer = raw(service, b"POST /v1/rerank HTTP/1.1\r\nhost: localhost\r\n" + head + b"\r\n\r\n")
    assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert post(service, json.dumps(RIGHT)).status_code == 200


def test_a_body_that_never_comes(start) -> None:
    service = start(deadline=0.2)
    head = b"POST /v1/rerank HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head += b"content-length: 9\r\n\r\n"
    assert raw(service, head).startswith(b"HTTP/1.1 408 ")
