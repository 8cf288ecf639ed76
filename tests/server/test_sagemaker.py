"""Amazon SageMaker's requests to a container, over a socket."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from aws import wait_until
from holding import HeldScorer
from serving import LiveService
from tokenizers import Tokenizer

from jina_rerank import LocalScorer, Reranker
from jina_rerank.server import Engine, ServedModel, Settings, create_app
from jina_rerank.server.dialects.sagemaker import LONGEST, SageMaker

QUERY = "what is a panda?"
TEXTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin", "the panda"]


@pytest.fixture(scope="module")
def plain(small_checkpoint: Path) -> Reranker:
    """The same model without a service."""
    return Reranker(LocalScorer(small_checkpoint))


def post(service: LiveService, data: object) -> httpx.Response:
    return httpx.post(f"{service.url}/invocations", json={"data": data}, timeout=30)


def query(texts: list[str] = TEXTS, **more: object) -> dict[str, object]:
    return {"query": QUERY, "documents": [{"text": text} for text in texts], **more}


def ping(service: LiveService) -> httpx.Response:
    return httpx.get(f"{service.url}/ping", timeout=30)


def test_an_object_is_answered_with_ids(service: LiveService, plain: Reranker) -> None:
    reply = post(service, query(top_n=2))
    assert reply.status_code == 200
    (answer,) = reply.json()["data"]
    assert reply.json()["parameters"] == {}
    request_id = reply.headers["x-request-id"]
    assert answer["results"] == [
        {
            "id": request_id,
            "index": hit.index,
            "document": {"id": request_id, "text": hit.text},
            "relevance_score": round(hit.score, 8),
            "usage": {"id": request_id, "total_tokens": hit.tokens},
        }
        for hit in plain.rank(QUERY, TEXTS, top_n=2)
    ]
    assert answer["id"] == request_id


def test_usage_is_what_the_tokenizer_counts(service: LiveService, small_checkpoint: Path) -> None:
    tokenizer = Tokenizer.from_file(str(small_checkpoint / "tokenizer.json"))
    (answer,) = post(service, query(top_n=1)).json()["data"]
    own = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in TEXTS]
    assert answer["docs_usage"]["total_tokens"] == sum(own)
    # With the special tokens of a pair.
    assert answer["query_usage"]["total_tokens"] == len(tokenizer.encode(QUERY, "").ids)
    (best,) = answer["results"]
    assert best["usage"]["total_tokens"] == own[best["index"]]


def test_a_list_is_answered_one_by_one_and_without_ids(
    service: LiveService, plain: Reranker
) -> None:
    body = [query(), query(TEXTS[:2], query="coffee?", top_n=1)]
    first, second = post(service, body).json()["data"]
    for answer, expected in (
        (first, plain.rank(QUERY, TEXTS)),
        (second, plain.rank("coffee?", TEXTS[:2], top_n=1)),
    ):
        assert set(answer) == {"query_usage", "docs_usage", "results"}
        assert answer["results"] == [
            {
                "index": hit.index,
                "document": {"text": hit.text},
                "relevance_score": round(hit.score, 8),
                "usage": {"total_tokens": hit.tokens},
            }
            for hit in expected
        ]


def test_documents_may_be_strings(service: LiveService) -> None:
    as_strings = post(service, [{"query": QUERY, "documents": TEXTS}])
    assert as_strings.json() == post(service, [query()]).json()


@pytest.mark.parametrize(
    ("data", "status", "code", "named"),
    [
        ({}, 422, "INPUT_INVALID", "data.query: "),
        ([], 422, "INPUT_INVALID", "data: "),
        ([query(), {"query": QUERY}], 422, "INPUT_INVALID", "data[1].documents: "),
        (query([]), 422, "INPUT_INVALID", "data.documents: "),
        (query(top_n=0), 422, "INPUT_INVALID", "data.top_n: "),
        (
            query() | {"documents": [{"image": "aGVsbG8="}]},
            422,
            "INPUT_INVALID",
            "data.documents[0].text: ",
        ),
        (query(query=" "), 422, "INPUT_INVALID", "data.query: "),
        (query(["a", "b\0"]), 422, "INPUT_INVALID", "data.documents[1]: "),
        ([query(), query(["a", "b\0"])], 422, "INPUT_INVALID", "data[1].documents[1]: "),
        (query() | {"documents": [None]}, 422, "INPUT_INVALID", "data.documents[0]: "),
        ("panda", 422, "INPUT_INVALID", "data"),
        (query(["a"] * 1001), 413, "INPUT_TOO_LARGE", "1,001"),
        ([query(["a"])] * 1001, 413, "INPUT_TOO_LARGE", "1,001"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    service: LiveService, data: object, status: int, code: str, named: str
) -> None:
    reply = post(service, data)
    assert reply.status_code == status
    assert set(reply.json()) == {"detail", "code", "request_id"}
    assert reply.json()["code"] == code
    assert reply.json()["request_id"] == reply.headers["x-request-id"]
    assert named in reply.json()["detail"]


def test_a_payload_over_the_limit_is_refused(small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), max_body_bytes=2_000) as service:
        assert post(service, query()).status_code == 200
        reply = post(service, query(["the panda " * 200]))
    assert reply.status_code == 413
    assert reply.json()["code"] == "INPUT_TOO_LARGE"


def test_ping_says_whether_invocations_would_be_answered() -> None:
    held = HeldScorer()
    with LiveService([ServedModel("held", Reranker(held))]) as service, held:
        assert ping(service).status_code == 503
        held.let_go()
        wait_until(lambda: ping(service).status_code == 200)
        assert ping(service).content == b""
        service.engine.drain()
        assert ping(service).status_code == 503


def test_ping_needs_no_key(small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), keys="a:" + "k" * 20) as service:
        wait_until(lambda: ping(service).status_code == 200)
        assert post(service, query()).status_code == 401


async def test_an_invocation_ends_before_sagemaker_gives_up() -> None:
    assert LONGEST < 60
    assert Settings().deadline < 60
    with HeldScorer() as held:
        # A deadline that is too long for SageMaker, and a limit that is short for a test.
        engine = Engine(Settings(deadline=3600), [ServedModel("held", Reranker(held))])
        app = create_app(engine, [SageMaker(longest=0.1)])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            reply = await client.post("/invocations", json={"data": [query(), query()]})
    assert reply.status_code == 504
    assert reply.json()["code"] == "SERVICE_TIMEOUT"
