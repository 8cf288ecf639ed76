"""Jina's dialect over a socket: the contract, field by field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from serving import GatedModel, LiveService, until

from jina_rerank import LocalScorer, RemoteScorer, Reranker
from jina_rerank.encoders import PairTokenizer
from jina_rerank.errors import RejectedInputError, RejectedSettingError
from jina_rerank.server import ServedModel
from jina_rerank.testing import FakeScorer

QUERY = "what is a panda?"
DOCUMENTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin", "the panda"]


@pytest.fixture(scope="module")
def plain(small_checkpoint: Path) -> Reranker:
    """The same model without a service."""
    return Reranker(LocalScorer(small_checkpoint))


def post(service: LiveService, **body) -> httpx.Response:
    given = {"model": "small", "query": QUERY, "documents": DOCUMENTS} | body
    given = {name: value for name, value in given.items() if value != "absent"}
    return httpx.post(f"{service.url}/v1/rerank", json=given, timeout=30)


@pytest.mark.parametrize("path", ["/reranking", "/v1/reranking"])
def test_llama_cpps_names_are_answered_likewise(service: LiveService, path: str) -> None:
    for body in ({"top_n": 2}, {"return_documents": False}, {"documents": []}, {"query": 7}):
        asked = {"query": QUERY, "documents": DOCUMENTS} | body
        here = httpx.post(f"{service.url}{path}", json=asked, timeout=30)
        there = httpx.post(f"{service.url}/v1/rerank", json=asked, timeout=30)
        assert here.status_code == there.status_code
        own, its = here.json(), there.json()
        # The id of a refusal is its own.
        assert own.pop("request_id", None) == (
            here.headers["x-request-id"] if its.pop("request_id", None) else None
        )
        assert own == its


def test_our_client_gets_what_the_model_says(service: LiveService, plain: Reranker) -> None:
    with Reranker(RemoteScorer("small", base_url=service.url)) as remote:
        found = remote.rank(QUERY, DOCUMENTS)
    expected = plain.rank(QUERY, DOCUMENTS)
    assert [hit.index for hit in found] == [hit.index for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert found.usage.tokens == expected.usage.tokens


def test_the_whole_answer(service: LiveService, plain: Reranker) -> None:
    answer = post(service, top_n=2).json()
    best, second = plain.rank(QUERY, DOCUMENTS)[:2]
    assert list(answer) == ["model", "object", "usage", "results"]
    assert answer["model"] == "small"
    assert answer["object"] == "list"
    assert answer["usage"] == {"total_tokens": plain.rank(QUERY, DOCUMENTS).usage.tokens}
    assert [list(result) for result in answer["results"]] == [
        ["index", "relevance_score", "document"]
    ] * 2
    assert [(r["index"], r["document"]) for r in answer["results"]] == [
        (best.index, best.text),
        (second.index, second.text),
    ]


def test_scores_have_eight_decimals(service: LiveService) -> None:
    scores = [result["relevance_score"] for result in post(service).json()["results"]]
    assert scores == [round(score, 8) for score in scores]
    assert scores == sorted(scores, reverse=True)


def test_documents_come_back_as_they_were_sent(service: LiveService) -> None:
    documents = ["a bear", {"text": "coffee"}, {"text": "paris", "id": 7}]
    results = post(service, documents=documents).json()["results"]
    found = {result["index"]: result["document"] for result in results}
    assert found == dict(enumerate(documents))


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        (["title"], ["Pandas", "Coffee", "a string"]),
        (["body", "title"], ["a bear of china\nPandas", "Coffee", "a string"]),
        (["title", "year"], ["Pandas", "Coffee", "a string"]),
    ],
)
def test_the_fields_of_documents_become_text_by_one_rule(
    service: LiveService, plain: Reranker, fields: list[str], texts: list[str]
) -> None:
    documents = [
        {"title": "Pandas", "body": "a bear of china", "tags": ["x", {"y": 1.5}], "_id": "7"},
        {"title": "Coffee", "body": None, "text": "not read"},
        "a string",
    ]
    results = post(service, documents=documents, rank_fields=fields).json()["results"]
    expected = {hit.index: hit.score for hit in plain.rank(QUERY, texts)}
    assert {r["index"]: r["relevance_score"] for r in results} == pytest.approx(expected, abs=1e-6)
    assert {r["index"]: r["document"] for r in results} == dict(enumerate(documents))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"documents": ["a", {"title": "b"}]}, "body -> documents -> 1"),
        ({"documents": ["a", {"text": 7}]}, "body -> documents -> 1 -> text"),
        ({"documents": [{"t": None}], "rank_fields": ["t", "u"]}, "body -> documents -> 0"),
        ({"documents": [{"t": ["b"]}], "rank_fields": ["t"]}, "body -> documents -> 0"),
        ({"documents": [{"t": " "}], "rank_fields": ["t"]}, "body -> documents"),
        ({"rank_fields": []}, "body -> rank_fields"),
        ({"rank_fields": "text"}, "body -> rank_fields"),
        ({"rank_fields": [7]}, "body -> rank_fields -> 0"),
    ],
)
def test_a_document_without_a_usable_field_is_named(
    service: LiveService, body: dict, field: str
) -> None:
    reply = post(service, **body)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(("asked", "there"), [(True, True), (None, True), (False, False)])
def test_documents_are_left_out_when_they_are_not_wanted(
    service: LiveService, asked: bool | None, there: bool
) -> None:
    results = post(service, return_documents=asked).json()["results"]
    assert [("document" in result) for result in results] == [there] * len(DOCUMENTS)


def test_a_query_may_be_an_object(service: LiveService) -> None:
    as_object, as_string = post(service, query={"text": QUERY}), post(service)
    assert as_object.json() == as_string.json()


@pytest.mark.parametrize("model", ["absent", None])
def test_the_first_model_is_the_default(service: LiveService, model: str | None) -> None:
    assert post(service, model=model).json()["model"] == "small"


def test_more_is_asked_for_than_there_is(service: LiveService) -> None:
    assert len(post(service, top_n=100).json()["results"]) == len(DOCUMENTS)


def test_unknown_fields_are_ignored(service: LiveService) -> None:
    assert post(service, max_query_length=5, normalized=True).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"query": "absent"}, "body -> query"),
        ({"documents": "absent"}, "body -> documents"),
        ({"documents": []}, "body -> documents"),
        ({"documents": "one text"}, "body -> documents"),
        ({"documents": [{"image": "https://example.org"}]}, "body -> documents -> 0"),
        ({"documents": ["a", None]}, "body -> documents -> 1"),
        ({"query": {"image": "https://example.org"}}, "body -> query -> text"),
        ({"query": None}, "body -> query"),
        ({"top_n": 0}, "body -> top_n"),
        ({"top_n": "many"}, "body -> top_n"),
        ({"query": "  "}, "body -> query"),
        ({"documents": ["", " "]}, "body -> documents"),
        ({"documents": ["fine", "\0"]}, "body -> documents -> 1"),
    ],
)
def test_what_is_wrong_is_named(service: LiveService, body: dict, field: str) -> None:
    response = post(service, **body)
    answer = response.json()
    assert response.status_code == 422
    assert set(answer) == {"detail", "request_id", "errors"}
    assert answer["detail"].startswith("Validation error: ")
    assert answer["request_id"] == response.headers["x-request-id"]
    assert [error["field"] for error in answer["errors"]] == [field]
    assert answer["errors"][0]["input"] is None


def test_a_message_names_a_place_as_a_client_would_write_it(service: LiveService) -> None:
    for documents, said in (
        (["a", None], "documents[1]: "),
        (["a", "\0"], "documents[1]: "),
        (["a", {"text": 7}], "documents[1].text: "),
    ):
        assert f"Validation error: {said}" in post(service, documents=documents).json()["detail"]


def test_an_unknown_model(service: LiveService) -> None:
    response = post(service, model="<script>other</script>")
    detail = response.json()["detail"]
    assert response.status_code == 400
    assert detail["code"] == "INPUT_MODEL_NOT_FOUND"
    assert detail["request_id"] == response.headers["x-request-id"]
    assert "small" in detail["message"]
    assert "script" not in response.text
    with (
        Reranker(RemoteScorer("other", base_url=service.url)) as remote,
        pytest.raises(RejectedSettingError, match="small"),
    ):
        remote.rank(QUERY, DOCUMENTS)


def test_long_texts_are_cut_unless_that_is_forbidden(small_checkpoint: Path) -> None:
    long = "panda " * 200
    with LiveService(models=(f"small={small_checkpoint}",), max_length=64) as service:
        assert post(service, documents=[long, "short"]).status_code == 200
        assert post(service, documents=[long, "short"], truncation=True).status_code == 200
        refused = post(service, documents=["short", long], truncation=False)
        assert refused.status_code == 400
        assert refused.json()["detail"]["code"] == "INPUT_TOKEN_LIMIT_EXCEEDED"
        assert "documents[1]" in refused.json()["detail"]["message"]
        assert post(service, documents=["short"], truncation=False).status_code == 200
        settings = {"base_url": service.url, "truncation": False}
        with (
            Reranker(RemoteScorer("small", **settings)) as remote,
            pytest.raises(RejectedInputError, match="too long"),
        ):
            remote.rank(QUERY, [long])


@pytest.mark.parametrize("name", ["small", "org/large"])
def test_a_model_is_described_at_its_own_address(small_checkpoint: Path, name: str) -> None:
    with LiveService(models=(f"{name}={small_checkpoint}",)) as live:
        until(lambda: live.engine.ready)
        (listed,) = httpx.get(f"{live.url}/v1/models").json()["data"]
        found = httpx.get(f"{live.url}/v1/models/{name}")
        other = httpx.get(f"{live.url}/v1/models/other")
    assert (found.status_code, found.json()) == (200, listed)
    assert other.status_code == 404
    assert other.json()["detail"]["code"] == "INPUT_MODEL_NOT_FOUND"


def test_the_models(service: LiveService) -> None:
    answer = httpx.get(f"{service.url}/v1/models").json()
    assert answer["object"] == "list"
    (model,) = answer["data"]
    assert (model["id"], model["object"], model["context_length"]) == ("small", "model", 8192)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/rerank", 405),
        ("GET", "/reranking", 405),
        ("GET", "/score", 405),
        ("PUT", "/v1/score", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/score/nothing", 404),
        ("POST", "/v1/models", 405),
        ("POST", "/info", 405),
        ("POST", "/health", 405),
    ],
)
def test_what_is_not_there(service: LiveService, method: str, path: str, status: int) -> None:
    response = httpx.request(method, service.url + path)
    assert response.status_code == status
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert ("allow" in response.headers) == (status == 405)


def test_long_documents_are_read_as_a_request_wants(small_checkpoint: Path) -> None:
    long = "panda bear coffee paris berlin " * 9
    with LiveService(models=(f"small={small_checkpoint}",), max_length=32) as service:
        for wanted in ("truncate", "chunk"):
            answer = post(service, documents=[long, "short"], long_documents=wanted).json()
            scorer = LocalScorer(small_checkpoint, max_length=32, long_documents=wanted)
            expected = Reranker(scorer).rank(QUERY, [long, "short"])
            assert answer["usage"]["total_tokens"] == expected.usage.tokens
            assert {r["index"]: r["relevance_score"] for r in answer["results"]} == pytest.approx(
                {hit.index: hit.score for hit in expected}, abs=1e-6
            )
        refused = post(service, documents=["short", long], long_documents="error")
        cut = post(service, documents=["short", long], long_documents="error", max_doc_length=4)
    assert refused.status_code == 400
    assert refused.json()["detail"]["code"] == "INPUT_TOKEN_LIMIT_EXCEEDED"
    assert "documents[1] is too long" in refused.json()["detail"]["message"]
    assert cut.status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"long_documents": "chunks"}, 422, "body -> long_documents"),
        ({"long_documents": True}, 422, "body -> long_documents"),
        ({"max_doc_length": 0}, 422, "body -> max_doc_length"),
        ({"long_documents": "chunk", "truncation": False}, 422, "body -> truncation"),
        ({"long_documents": "error", "truncation": True}, 422, "body -> truncation"),
        ({"long_documents": "error", "truncation": False}, 200, ""),
        ({"long_documents": "chunk", "truncation": True}, 200, ""),
    ],
)
def test_options_that_contradict_each_other_or_mean_nothing_are_named(
    service: LiveService, body: dict, status: int, said: str
) -> None:
    reply = post(service, **body)
    assert reply.status_code == status
    assert status == 200 or reply.json()["errors"][0]["field"] == said


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/reranking"])
def test_a_threshold_keeps_what_reaches_it(
    service: LiveService, plain: Reranker, path: str
) -> None:
    hits = plain.rank(QUERY, DOCUMENTS)
    between = (hits[1].score + hits[2].score) / 2

    def kept(**body) -> list[int]:
        asked = {"query": QUERY, "documents": DOCUMENTS, **body}
        reply = httpx.post(f"{service.url}{path}", json=asked, timeout=30)
        assert reply.status_code == 200
        assert reply.json()["usage"] == {"total_tokens": hits.usage.tokens}
        return [result["index"] for result in reply.json()["results"]]

    every = [hit.index for hit in hits]
    assert kept(threshold=between) == every[:2]
    assert kept(threshold=between, top_n=1) == every[:1]
    assert kept(threshold=between, top_n=4) == every[:2]
    assert kept(threshold=1) == []
    assert kept(threshold=0) == kept(threshold=-5) == kept(threshold=None) == every


def test_a_threshold_is_compared_with_the_whole_score() -> None:
    third = 1 / 3
    exact = ServedModel("small", Reranker(FakeScorer(lambda _query, _document: third)))
    with LiveService([exact]) as service:
        # The answer has 0.33333333, which is below it.
        assert len(post(service, threshold=third).json()["results"]) == len(DOCUMENTS)
        assert post(service, threshold=third + 1e-12).json()["results"] == []


@pytest.mark.parametrize("threshold", ["0.5", True, [0.5], 10**400])
def test_a_threshold_that_is_no_number_is_named(service: LiveService, threshold: object) -> None:
    reply = post(service, threshold=threshold)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["field"] == "body -> threshold"


def test_a_gateway_keeps_what_reaches_a_threshold(service: LiveService, plain: Reranker) -> None:
    gateway = ServedModel("far", Reranker(RemoteScorer("small", base_url=service.url)))
    with LiveService([gateway]) as front:
        hits = plain.rank(QUERY, DOCUMENTS)
        between = (hits[0].score + hits[1].score) / 2
        (best,) = post(front, model="far", threshold=between).json()["results"]
    assert best["index"] == hits[0].index


def test_a_gateway_passes_options_on_and_says_which_it_cannot(service: LiveService) -> None:
    long = "panda bear " * 9000
    gateway = ServedModel("far", Reranker(RemoteScorer("small", base_url=service.url)))
    with LiveService([gateway]) as front:
        strict = post(front, model="far", documents=["a", long], truncation=False)
        limited = post(front, model="far", documents=["panda bear", "a"], max_doc_length=1)
        chunked = post(front, model="far", documents=["a", long], long_documents="chunk")
    assert strict.status_code == 400
    assert strict.json()["detail"]["code"] == "INPUT_TOKEN_LIMIT_EXCEEDED"
    here = post(service, documents=["panda", "a"])
    assert limited.json()["usage"] == here.json()["usage"]
    assert chunked.status_code == 422
    assert chunked.json()["errors"][0]["field"] == "body -> long_documents"
    assert "the dialect 'jina' does not have 'chunk'; leave it out" in chunked.json()["detail"]


def test_a_model_has_one_scorer_and_a_text_is_tokenized_once(
    gated: GatedModel, start: Callable[..., LiveService]
) -> None:
    service = start()
    seen: list[str] = []

    class Counting:
        def __init__(self, tokenizer: PairTokenizer) -> None:
            self.special_tokens, self.pair = tokenizer.special_tokens, tokenizer.pair
            self._tokenizer = tokenizer

        def encode(self, texts):
            seen.extend(texts)
            return self._tokenizer.encode(texts)

        def documents(self, queries, documents, limits):
            seen.extend(documents)
            return self._tokenizer.documents(queries, documents, limits)

    gated.tokenizer = Counting(gated.tokenizer)  # type: ignore[assignment]
    for body in (
        {},
        {"truncation": False},
        {"max_doc_length": 3},
        {"max_doc_length": 3, "long_documents": "chunk"},
    ):
        seen.clear()
        assert post(service, model="gated", **body).status_code == 200
        assert sorted(seen) == sorted([QUERY, *DOCUMENTS])
