"""Cohere's dialect over a socket: the contract, field by field."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from serving import LiveService

from jina_rerank import LocalScorer, Reranker
from jina_rerank.server import ServedModel
from jina_rerank.testing import FakeScorer

QUERY = "what is a panda?"
DOCUMENTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin", "the panda"]


@pytest.fixture(scope="module")
def plain(small_checkpoint: Path) -> Reranker:
    """The same model without a service."""
    return Reranker(LocalScorer(small_checkpoint))


def post(service: LiveService, **body) -> httpx.Response:
    given = {"model": "small", "query": QUERY, "documents": DOCUMENTS}
    return httpx.post(f"{service.url}/v2/rerank", json=given | body, timeout=30)


def test_the_best_come_first_with_the_scores_of_the_model(
    service: LiveService, plain: Reranker
) -> None:
    expected = plain.rank(QUERY, DOCUMENTS, top_n=3)
    reply = post(service, top_n=3)
    assert reply.status_code == 200
    assert reply.json() == {
        "id": reply.headers["x-request-id"],
        "results": [{"index": hit.index, "relevance_score": hit.score} for hit in expected],
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": expected.usage.tokens},
        },
    }


@pytest.mark.parametrize("top_n", [None, 5, 99])
def test_without_a_limit_all_are_answered(service: LiveService, top_n: int | None) -> None:
    indices = [result["index"] for result in post(service, top_n=top_n).json()["results"]]
    assert sorted(indices) == [0, 1, 2, 3, 4]


def test_documents_come_back_if_they_are_asked_for(service: LiveService) -> None:
    for result in post(service, return_documents=True).json()["results"]:
        assert result["document"] == {"text": DOCUMENTS[result["index"]]}


def test_a_search_unit_is_a_hundred_documents(service: LiveService) -> None:
    meta = post(service, documents=["panda"] * 101).json()["meta"]
    assert meta["billed_units"] == {"search_units": 2}


def test_no_more_of_a_document_is_read_than_the_limit_allows(
    service: LiveService, plain: Reranker
) -> None:
    documents = ["bear panda paris", "coffee beans bear panda", "panda", "the bear", "bear. paris"]
    beginnings = ["bear panda", "coffee beans", "panda", "the bear", "bear."]
    expected = plain.rank(QUERY, beginnings)
    answer = post(service, documents=documents, max_tokens_per_doc=2, return_documents=True).json()
    found = {result["index"]: result["relevance_score"] for result in answer["results"]}
    assert found == pytest.approx({hit.index: hit.score for hit in expected}, abs=1e-6)
    assert answer["meta"]["tokens"]["input_tokens"] == expected.usage.tokens
    assert "warnings" not in answer["meta"]
    for result in answer["results"]:
        assert result["document"]["text"] == documents[result["index"]]


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize(
    ("documents", "beginnings"),
    [
        (["😀", "🐼🐼 bear"], ["😀", "🐼"]),
        (["漢字 漢字", "\n\n\t\n 🎉 party"], ["漢", "\n\n\t\n 🎉"]),
    ],
)
def test_a_limit_within_a_character_leaves_that_character(
    service: LiveService,
    plain: Reranker,
    documents: list[str],
    beginnings: list[str],
    limit: int,
) -> None:
    """The model's tokenizer has a token for each byte of these."""
    expected = plain.rank(QUERY, beginnings)
    reply = post(service, documents=documents, max_tokens_per_doc=limit)
    assert reply.status_code == 200
    found = {result["index"]: result["relevance_score"] for result in reply.json()["results"]}
    assert found == pytest.approx({hit.index: hit.score for hit in expected}, abs=1e-6)


def test_a_character_that_does_not_fit_is_left_out_and_not_halved(
    service: LiveService, plain: Reranker
) -> None:
    expected = plain.rank(QUERY, ["panda "])
    for limit in (2, 3, 4, 5):
        answer = post(service, documents=["panda 😀"], max_tokens_per_doc=limit).json()
        (result,) = answer["results"]
        assert result["relevance_score"] == pytest.approx(expected[0].score, abs=1e-6)


def test_a_limit_that_is_not_reached_changes_nothing(service: LiveService) -> None:
    with_limit, without = post(service, max_tokens_per_doc=100), post(service)
    assert with_limit.json()["results"] == without.json()["results"]


def test_a_model_that_cannot_read_a_part_says_so() -> None:
    with LiveService([ServedModel("fake", Reranker(FakeScorer()))]) as service:
        refused = post(service, model="fake", max_tokens_per_doc=9)
    assert refused.status_code == 400
    assert "max_tokens_per_doc: FakeScorer cannot" in refused.json()["message"]


def test_what_was_cut_is_told(small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), max_length=16) as service:
        warnings = post(service, query="panda " * 20, documents=["bear " * 50, "b", "bear " * 50])
    of_documents, of_the_query = warnings.json()["meta"]["warnings"]
    assert of_documents == "documents that were cut to what the model reads: 2"
    assert of_the_query.startswith("tokens that were cut off the query: ")


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({"documents": []}, 400, "documents"),
        ({"documents": "panda"}, 400, "documents"),
        ({"documents": ["a", 1]}, 400, "documents[1]"),
        ({"documents": ["", " "]}, 400, "documents"),
        ({"documents": ["a", "b\0"]}, 400, "documents[1]"),
        ({"query": " \n"}, 400, "query"),
        ({"query": None}, 400, "query"),
        ({"top_n": 0}, 400, "top_n"),
        ({"top_n": "2"}, 400, "top_n"),
        ({"top_n": True}, 400, "top_n"),
        ({"max_tokens_per_doc": 0}, 400, "max_tokens_per_doc"),
        ({"model": None}, 400, "model"),
        ({"model": "another"}, 404, "small"),
        ({"documents": ["a"] * 1001}, 413, "documents"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    service: LiveService, body: dict[str, object], status: int, named: str
) -> None:
    reply = post(service, **body)
    assert reply.status_code == status
    assert set(reply.json()) == {"id", "message"}
    assert reply.json()["id"] == reply.headers["x-request-id"]
    assert named in reply.json()["message"]


def test_unknown_fields_are_ignored(service: LiveService) -> None:
    assert post(service, priority=3, relevant_spans={"mode": "enabled"}).status_code == 200


def test_a_body_that_is_no_json(service: LiveService) -> None:
    headers = {"content-type": "application/json"}
    reply = httpx.post(f"{service.url}/v2/rerank", content=b"{", headers=headers)
    assert reply.status_code == 400
    assert set(reply.json()) == {"id", "message"}
