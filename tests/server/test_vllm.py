"""vLLM's score API over a socket: the contract, field by field, and OpenAI's client for errors."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import LiveService

from jina_rerank import LocalScorer, Reranker
from jina_rerank.server import ServedModel
from jina_rerank.testing import FakeScorer

QUERY = "what is a panda?"
TEXTS = ["coffee is brewed", "the giant panda is a bear", "paris", "berlin", "the panda"]

both_paths = pytest.mark.parametrize("path", ["/score", "/v1/score"])


@pytest.fixture(scope="module")
def plain(small_checkpoint: Path) -> Reranker:
    """The same model without a service."""
    return Reranker(LocalScorer(small_checkpoint))


def post(service: LiveService, path: str = "/score", **body: Any) -> httpx.Response:
    given = {"text_1": QUERY, "text_2": TEXTS} | body
    given = {name: value for name, value in given.items() if value != "absent"}
    return httpx.post(f"{service.url}{path}", json=given, timeout=30)


def scores(reply: httpx.Response) -> list[float]:
    """The scores in the order of the pairs."""
    assert reply.status_code == 200, reply.text
    data = reply.json()["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    return [one["score"] for one in data]


@both_paths
def test_the_whole_answer(service: LiveService, plain: Reranker, path: str) -> None:
    before = int(time.time())
    reply = post(service, path)
    answer, ranking = reply.json(), plain.rank(QUERY, TEXTS)
    assert answer["id"] == f"score-{reply.headers['x-request-id']}"
    assert before <= answer["created"] <= time.time()
    assert {k: v for k, v in answer.items() if k not in {"id", "created"}} == {
        "object": "list",
        "model": "small",
        "data": [
            {"index": i, "object": "score", "score": score}
            for i, score in enumerate(plain.score(QUERY, TEXTS))
        ],
        "usage": {
            "prompt_tokens": ranking.usage.tokens,
            "total_tokens": ranking.usage.tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


@pytest.mark.parametrize(
    ("text_1", "text_2", "pairs"),
    [
        (QUERY, TEXTS[1], [(QUERY, TEXTS[1])]),
        ([QUERY], TEXTS[1], [(QUERY, TEXTS[1])]),
        (QUERY, [TEXTS[1]], [(QUERY, TEXTS[1])]),
        ([QUERY], TEXTS[:2], [(QUERY, TEXTS[0]), (QUERY, TEXTS[1])]),
        (["coffee?", QUERY], TEXTS[:2], [("coffee?", TEXTS[0]), (QUERY, TEXTS[1])]),
        # A query that comes back later, beside a document that is there twice.
        (
            [QUERY, "paris?", QUERY, "paris?"],
            ["paris", "paris", "the panda", "berlin"],
            [(QUERY, "paris"), ("paris?", "paris"), (QUERY, "the panda"), ("paris?", "berlin")],
        ),
    ],
)
def test_texts_are_paired_as_vllm_pairs_them(
    service: LiveService,
    plain: Reranker,
    text_1: object,
    text_2: object,
    pairs: list[tuple[str, str]],
) -> None:
    expected = [plain.score(query, [text])[0] for query, text in pairs]
    reply = post(service, text_1=text_1, text_2=text_2)
    # Batches are of another shape, which moves the last digits.
    assert scores(reply) == pytest.approx(expected, abs=1e-6)
    alone = sum(plain.rank(query, [text]).usage.tokens or 0 for query, text in pairs)
    assert reply.json()["usage"]["total_tokens"] == alone


def test_logits_are_answered_instead_of_scores_where_no_activation_is_wanted(
    service: LiveService, plain: Reranker
) -> None:
    by_index = sorted(plain.rank(QUERY, TEXTS), key=lambda hit: hit.index)
    assert scores(post(service, use_activation=False)) == [hit.logit for hit in by_index]
    for wanted in (True, None):
        assert scores(post(service, use_activation=wanted)) == [hit.score for hit in by_index]


def test_a_model_without_logits_says_so() -> None:
    with LiveService([ServedModel("fake", Reranker(FakeScorer()))]) as service:
        assert len(scores(post(service))) == len(TEXTS)
        reply = post(service, use_activation=False)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "use_activation")


@pytest.mark.parametrize("model", ["absent", None])
def test_the_first_model_is_the_default(service: LiveService, model: str | None) -> None:
    assert post(service, model=model).json()["model"] == "small"


def test_unknown_fields_are_ignored(service: LiveService) -> None:
    plainly = scores(post(service))
    assert scores(post(service, truncate_prompt_tokens=-1, priority=3, user="ada")) == plainly


def test_some_documents_may_be_blank(service: LiveService) -> None:
    assert len(scores(post(service, text_2=["", "the panda"]))) == 2


@both_paths
@pytest.mark.parametrize(
    ("body", "status", "kind", "param", "named"),
    [
        ({"text_1": "absent"}, 400, "BadRequestError", "text_1", "text_1: "),
        ({"text_2": "absent"}, 400, "BadRequestError", "text_2", "text_2: "),
        ({"text_1": 7}, 400, "BadRequestError", "text_1", "text_1: "),
        ({"text_1": {"content": []}}, 400, "BadRequestError", "text_1", "text_1: "),
        ({"text_2": []}, 400, "BadRequestError", "text_2", "text_2: "),
        ({"text_2": ["a", None]}, 400, "BadRequestError", "text_2", "text_2[1]: "),
        ({"text_1": " "}, 400, "BadRequestError", "text_1", "text_1: "),
        (
            {"text_1": ["a", ""], "text_2": ["a", "b"]},
            400,
            "BadRequestError",
            "text_1",
            "text_1[1]",
        ),
        ({"text_2": ["", " "]}, 400, "BadRequestError", "text_2", "text_2: is blank"),
        (
            {"text_1": ["a", "b"], "text_2": ["a", " "]},
            400,
            "BadRequestError",
            "text_2",
            "text_2[1]: is blank",
        ),
        ({"text_2": ["a", "b\0"]}, 400, "BadRequestError", "text_2", "text_2[1]"),
        ({"text_1": ["a", "b"]}, 400, "BadRequestError", "text_1", "2 texts for 5"),
        ({"text_1": ["a", "b"], "text_2": "c"}, 400, "BadRequestError", "text_1", "2 texts for 1"),
        ({"use_activation": "no"}, 400, "BadRequestError", "use_activation", "use_activation"),
        ({"model": "panda-9"}, 404, "NotFoundError", "model", "small"),
        ({"text_2": ["a"] * 1001}, 413, "BadRequestError", None, "text_2: 1,001"),
        (
            {"text_1": [f"{i}?" for i in range(1001)], "text_2": ["a"] * 1001},
            413,
            "BadRequestError",
            None,
            "text_2: 1,001",
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    service: LiveService,
    path: str,
    body: dict[str, object],
    status: int,
    kind: str,
    param: str | None,
    named: str,
) -> None:
    reply = post(service, path, **body)
    error = reply.json()["error"]
    assert reply.json() == {
        "error": {"message": error["message"], "type": kind, "param": param, "code": status}
    }
    assert reply.status_code == status
    assert named in error["message"]
    assert "panda-9" not in reply.text


def test_many_queries_are_one_request(small_checkpoint: Path) -> None:
    """One place in the queue, one line in the numbers, one limit: however many queries it has."""
    with LiveService(models=(f"small={small_checkpoint}",), max_request_tokens=100) as service:
        reply = post(service, text_1=["panda?", "paris?"], text_2=["a bear", "a city"])
        text = httpx.get(f"{service.url}/metrics").text
        # Each is below the bound, and both together are not.
        long = post(service, text_1=["panda?", "paris?"], text_2=["a bear " * 40] * 2)
        alone = post(service, text_1="panda?", text_2="a bear " * 40)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["jina_rerank_requests_total", "/score", "200"] == 1
    assert found["jina_rerank_request_documents_sum", "small"] == 2
    assert found["jina_rerank_request_documents_count", "small"] == 1
    tokens = reply.json()["usage"]["total_tokens"]
    assert found["jina_rerank_request_tokens_sum", "small"] == tokens
    assert (alone.status_code, long.status_code) == (200, 413)


def test_many_at_the_same_time(service: LiveService, plain: Reranker) -> None:
    asked = [
        ([f"panda {i}?" for i in range(n)], [f"bear {i} of {n}" for i in range(n)])
        for n in range(1, 25)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(lambda pair: scores(post(service, text_1=pair[0], text_2=pair[1])), asked)
        )
    for (queries, texts), theirs in zip(asked, found, strict=True):
        expected = [
            ranking[0].score
            for ranking in plain.rank_many(
                [(query, [text]) for query, text in zip(queries, texts, strict=True)]
            )
        ]
        assert theirs == pytest.approx(expected, abs=1e-6)


class TestOpenai:
    """OpenAI's client, with which vLLM's users ask its other routes."""

    def test_it_reads_scores(self, service: LiveService, plain: Reranker) -> None:
        openai = pytest.importorskip("openai")
        with httpx.Client() as client:  # its own would stay open
            official = openai.OpenAI(
                api_key="none", base_url=f"{service.url}/v1", http_client=client
            )
            found = official.post(
                "/score", body={"text_1": QUERY, "text_2": TEXTS}, cast_to=dict[str, Any]
            )
        assert [one["score"] for one in found["data"]] == plain.score(QUERY, TEXTS)

    def test_it_has_a_type_for_each_refusal(self, small_checkpoint: Path) -> None:
        openai = pytest.importorskip("openai")
        models = (f"small={small_checkpoint}",)
        with (
            LiveService(models=models, keys="tests:" + "k" * 20) as service,
            httpx.Client() as http,
        ):

            def refused(kind: type[Exception], key: str = "k" * 20, **body: object) -> Any:
                official = openai.OpenAI(
                    api_key=key, base_url=f"{service.url}/v1", http_client=http, max_retries=0
                )
                given = {"text_1": QUERY, "text_2": TEXTS} | body
                with pytest.raises(kind) as caught:
                    official.post("/score", body=given, cast_to=dict[str, Any])
                return caught.value

            error = refused(openai.BadRequestError, text_2=["fine", 3])
            assert (error.param, error.type) == ("text_2", "BadRequestError")
            assert refused(openai.NotFoundError, model="another").param == "model"
            assert refused(openai.AuthenticationError, "b" * 20).type == "AuthenticationError"
