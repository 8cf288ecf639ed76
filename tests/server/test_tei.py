"""TEI's dialect over a socket: the contract, field by field."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from serving import LiveService

import jina_rerank
from jina_rerank import LocalScorer, Reranker
from jina_rerank.server import ServedModel
from jina_rerank.testing import FakeScorer

QUERY = "what is a panda?"
TEXTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin", "the panda"]


@pytest.fixture(scope="module")
def plain(small_checkpoint: Path) -> Reranker:
    """The same model without a service."""
    return Reranker(LocalScorer(small_checkpoint))


def post(service: LiveService, **body) -> httpx.Response:
    return httpx.post(
        f"{service.url}/rerank", json={"query": QUERY, "texts": TEXTS} | body, timeout=30
    )


def test_the_answer_is_a_list_with_the_best_first(service: LiveService, plain: Reranker) -> None:
    expected = plain.rank(QUERY, TEXTS)
    reply = post(service)
    assert reply.status_code == 200
    assert reply.json() == [{"index": hit.index, "score": hit.score} for hit in expected]
    assert reply.headers["x-compute-tokens"] == str(expected.usage.tokens)
    assert reply.headers["x-compute-characters"] == str(
        sum(len(QUERY) + len(text) for text in TEXTS)
    )


def test_raw_scores_are_logits(service: LiveService, plain: Reranker) -> None:
    expected = plain.rank(QUERY, TEXTS)
    assert [rank["score"] for rank in post(service, raw_scores=True).json()] == [
        hit.logit for hit in expected
    ]


def test_texts_come_back_if_they_are_asked_for(service: LiveService) -> None:
    for rank in post(service, return_text=True).json():
        assert rank["text"] == TEXTS[rank["index"]]


@pytest.mark.parametrize("truncate", [None, True])
def test_long_texts_are_cut(small_checkpoint: Path, plain: Reranker, truncate: bool | None) -> None:
    texts = ["the panda", "the panda " * 200]
    short = Reranker(LocalScorer(small_checkpoint, max_length=32))
    expected = [hit.score for hit in short.rank(QUERY, texts)]
    with LiveService(models=(f"small={small_checkpoint}",), max_length=32) as service:
        found = [rank["score"] for rank in post(service, texts=texts, truncate=truncate).json()]
    assert found == expected
    assert found != [hit.score for hit in plain.rank(QUERY, texts)]


def test_long_texts_are_refused_where_that_is_asked_for(small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), max_length=32) as service:
        assert post(service, texts=["a", "b"], truncate=False).status_code == 200
        reply = post(service, texts=["the panda", "the panda " * 200], truncate=False)
    assert reply.status_code == 422
    assert reply.json()["error_type"] == "Validation"
    assert "texts[1]" in reply.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "error_type", "named"),
    [
        ({"texts": []}, 400, "Empty", "texts"),
        ({"texts": "panda"}, 422, "Validation", "texts"),
        ({"texts": ["a", None]}, 422, "Validation", "texts[1]"),
        ({"texts": ["", " "]}, 422, "Validation", "texts"),
        ({"texts": ["a", "b\0"]}, 422, "Validation", "texts[1]"),
        ({"query": ""}, 422, "Validation", "query"),
        ({"query": ["a"]}, 422, "Validation", "query"),
        ({"raw_scores": "true"}, 422, "Validation", "raw_scores"),
        ({"return_text": None}, 422, "Validation", "return_text"),
        ({"truncation_direction": "Left"}, 422, "Validation", "truncation_direction"),
        ({"truncation_direction": "up"}, 422, "Validation", "truncation_direction"),
        ({"texts": ["a"] * 1001}, 413, "Validation", "1,001"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    service: LiveService, body: dict[str, object], status: int, error_type: str, named: str
) -> None:
    reply = post(service, **body)
    assert reply.status_code == status
    assert set(reply.json()) == {"error", "error_type"}
    assert reply.json()["error_type"] == error_type
    assert named in reply.json()["error"]


@pytest.mark.parametrize("direction", ["Right", "right"])
def test_texts_may_be_cut_on_the_right(service: LiveService, direction: str) -> None:
    assert post(service, truncation_direction=direction).status_code == 200


def test_unknown_fields_are_ignored(service: LiveService) -> None:
    assert len(post(service, top_n=2).json()) == len(TEXTS)


def test_a_model_without_raw_scores_says_so() -> None:
    with LiveService([ServedModel("fake", Reranker(FakeScorer()))]) as service:
        assert [rank["index"] for rank in post(service).json()][:2] == [1, 0]
        reply = post(service, raw_scores=True)
    assert reply.status_code == 422
    assert reply.json()["error"].startswith("raw_scores")


class TestDocumentsInsteadOfTexts:
    """Jina's dialect on this path, which services that speak it have too."""

    def test_the_answer_is_that_of_jinas_own_path(self, service: LiveService) -> None:
        for body in (
            {"documents": TEXTS},
            {"documents": TEXTS, "top_n": 2, "model": "small", "return_documents": False},
            {"documents": [{"text": text} for text in TEXTS], "query": {"text": QUERY}},
        ):
            asked = {"query": QUERY} | body
            here = httpx.post(f"{service.url}/rerank", json=asked, timeout=30)
            there = httpx.post(f"{service.url}/v1/rerank", json=asked, timeout=30)
            assert there.status_code == 200
            assert here.json() == there.json()

    @pytest.mark.parametrize(
        "body",
        [
            {"documents": []},
            {"documents": "a panda"},
            {"documents": ["a", None]},
            {"documents": ["a", "b\0"]},
            {"documents": TEXTS, "top_n": 0},
            {"documents": TEXTS, "query": " "},
            {"documents": TEXTS, "model": "another"},
            {"documents": ["a"] * 1001},
        ],
    )
    def test_so_is_a_refusal(self, service: LiveService, body: dict[str, object]) -> None:
        said = []
        for path in ("/rerank", "/v1/rerank"):
            asked = {"query": QUERY} | body
            reply = httpx.post(f"{service.url}{path}", json=asked, timeout=30)
            own = reply.text.replace(reply.headers["x-request-id"], "ID")
            said.append((reply.status_code, own))
        here, there = said
        assert there[0] >= 400
        assert here == there

    def test_texts_are_ranked_where_a_request_has_both(self, service: LiveService) -> None:
        # As TEI does, which knows no documents.
        assert post(service, documents=["a panda"]).json() == post(service).json()

    @pytest.mark.parametrize("body", [{"query": QUERY}, {}, [], ["documents"], "documents", 7])
    def test_a_request_with_neither_is_answered_by_tei(
        self, service: LiveService, body: object
    ) -> None:
        reply = httpx.post(f"{service.url}/rerank", json=body, timeout=30)
        assert reply.status_code == 422
        assert reply.json()["error_type"] == "Validation"


def test_the_info_has_the_limits(small_checkpoint: Path) -> None:
    models = (f"small={small_checkpoint}", f"other={small_checkpoint}")
    with LiveService(models=models, max_length=128, max_documents=77) as service:
        found = httpx.get(f"{service.url}/info").json()
    assert found["model_id"] == "small"
    # By this text-embeddings-inference's clients tell rerankers from embedding models.
    assert list(found["model_type"]) == ["reranker"]
    assert (found["max_input_length"], found["max_client_batch_size"]) == (128, 77)
    assert found["auto_truncate"] is True
    assert found["version"] == jina_rerank.__version__
    assert found["max_concurrent_requests"] * 128 <= 500_000


def test_the_info_has_the_models_own_maximum(start) -> None:
    found = httpx.get(f"{start().url}/info").json()
    assert found["max_input_length"] == 512
    assert found["max_concurrent_requests"] == 500_000 // 512


def test_the_info_asks_for_a_key(small_checkpoint: Path) -> None:
    with LiveService(models=(f"small={small_checkpoint}",), keys="tests:" + "k" * 20) as service:
        reply = httpx.get(f"{service.url}/info")
        known = httpx.get(f"{service.url}/info", headers={"authorization": "Bearer " + "k" * 20})
    assert (reply.status_code, set(reply.json())) == (401, {"error", "error_type"})
    assert known.status_code == 200
