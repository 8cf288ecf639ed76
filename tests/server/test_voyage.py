"""Voyage's dialect over a socket: the contract, field by field."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from serving import LiveService

from jina_rerank import LocalScorer, RemoteScorer, Reranker
from jina_rerank.errors import AuthenticationError, RejectedInputError

QUERY = "what is a panda?"
DOCUMENTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin", "the panda"]
LONG = "panda bear " * 9000


@pytest.fixture(scope="module")
def plain(small_checkpoint: Path) -> Reranker:
    """The same model without a service."""
    return Reranker(LocalScorer(small_checkpoint))


def post(service: LiveService, **body) -> httpx.Response:
    given = {"model": "small", "query": QUERY, "documents": DOCUMENTS}
    return httpx.post(f"{service.url}/voyage/v1/rerank", json=given | body, timeout=30)


def test_the_best_come_first_with_the_scores_of_the_model(
    service: LiveService, plain: Reranker
) -> None:
    expected = plain.rank(QUERY, DOCUMENTS, top_n=3)
    reply = post(service, top_k=3, return_documents=True)
    assert reply.status_code == 200
    assert reply.json() == {
        "object": "list",
        "data": [
            {"index": hit.index, "relevance_score": hit.score, "document": hit.text}
            for hit in expected
        ],
        "model": "small",
        "usage": {"total_tokens": expected.usage.tokens},
    }
    assert all("document" not in result for result in post(service).json()["data"])
    assert len(post(service, top_k=99).json()["data"]) == len(DOCUMENTS)


def test_our_client_speaks_it(service: LiveService, plain: Reranker) -> None:
    settings = {"base_url": f"{service.url}/voyage", "dialect": "voyage"}
    with Reranker(RemoteScorer("small", **settings)) as remote:
        found = remote.rank(QUERY, DOCUMENTS)
    expected = plain.rank(QUERY, DOCUMENTS)
    assert [(hit.index, hit.score) for hit in found] == [(hit.index, hit.score) for hit in expected]
    assert found.usage.tokens == expected.usage.tokens
    with (
        Reranker(RemoteScorer("small", truncation=False, **settings)) as strict,
        pytest.raises(RejectedInputError, match="too long"),
    ):
        strict.rank(QUERY, [LONG])


def test_the_hosted_service_wants_voyages_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOYAGE_API_KEY", raising=False)
    monkeypatch.setenv("JINA_API_KEY", "jina_" + "x" * 20)
    with pytest.raises(AuthenticationError, match="VOYAGE_API_KEY"):
        RemoteScorer("rerank-2.5", dialect="voyage")
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-" + "x" * 20)
    shown = repr(RemoteScorer("rerank-2.5", dialect="voyage"))
    assert "https://api.voyageai.com/v1/rerank" in shown
    assert "key from VOYAGE_API_KEY" in shown


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"documents": []}, 400, "documents"),
        ({"documents": ["a", 1]}, 400, "documents[1]"),
        ({"documents": ["", " "]}, 400, "documents"),
        ({"query": " "}, 400, "query"),
        ({"top_k": 0}, 400, "top_k"),
        ({"top_k": "2"}, 400, "top_k"),
        ({"model": "another"}, 400, "small"),
        ({"documents": [LONG], "truncation": False}, 400, "documents[0] is too long"),
        ({"documents": ["a"] * 1001}, 413, "documents"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    service: LiveService, body: dict[str, object], status: int, named: str
) -> None:
    reply = post(service, **body)
    assert reply.status_code == status
    assert set(reply.json()) == {"detail"}
    assert named in reply.json()["detail"]
