"""Requests to an endpoint, and a scorer's results from its right answers."""

import asyncio

import pytest
from aws import KEY_ID, QUERY, TEXTS, container_answer, scores_of
from dialect_answers import score
from faults import Right, Slow
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Fault, SeenRequest

from jina_rerank import ConfigurationError, Reranker, SageMakerScorer, ScoreRequest


@pytest.mark.parametrize("form", ["object", "list"])
def test_the_request_is_what_the_container_takes(server, build, form):
    scorer = build(request_form=form)
    ranking = Reranker(scorer).rank(QUERY, TEXTS)
    assert [hit.score for hit in ranking] == sorted((score(QUERY, t) for t in TEXTS), reverse=True)
    (request,) = server.requests
    data = {"documents": [{"text": t} for t in TEXTS], "query": QUERY, "top_n": len(TEXTS)}
    assert request.json == {"data": data if form == "object" else [data]}
    assert request.path == f"/endpoints/{scorer.model}/invocations"
    assert request.headers["content-type"] == request.headers["accept"] == "application/json"
    assert f"Credential={KEY_ID}/" in request.headers["authorization"]
    assert "/eu-central-1/sagemaker/" in request.headers["authorization"]
    assert ranking.model == scorer.model
    assert ranking.usage.tokens == len(QUERY.split()) + sum(len(t.split()) for t in TEXTS)


async def test_async_calls_score_the_same(server, build):
    scorer = build()
    await scorer.awarm_up()
    assert server.received == 0
    answers = await asyncio.gather(
        *(scorer.ascore([ScoreRequest(QUERY, TEXTS[i:])]) for i in range(len(TEXTS)))
    )
    assert [answer[0].scores for answer in answers] == [
        [score(QUERY, text) for text in TEXTS[i:]] for i in range(len(TEXTS))
    ]
    await scorer.aclose()


def test_split_and_merged_is_what_it_would_have_been(server, build):
    whole = build()

    @settings(max_examples=10)
    @given(
        texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), min_size=1, max_size=20),
        documents=st.integers(1, 8),
        form=st.sampled_from(["object", "list"]),
    )
    def check(texts: list[str], documents: int, form: str) -> None:
        parts = build(max_documents=documents, request_form=form)
        server.reset()
        assert scores_of(parts, texts) == [score(QUERY, text) for text in texts]
        assert server.received == -(-len(texts) // documents)
        assert scores_of(whole, texts) == scores_of(parts, texts)

    check()


def test_connections_are_used_again(server, build):
    scorer = build()
    for _ in range(5):
        scores_of(scorer, TEXTS)
    assert server.connections == 1
    scorer.close()
    assert server.open_connections == 0


def test_requests_run_side_by_side_and_never_more_than_allowed(server, build):
    server.default = Slow(0.1)
    scorer = build(max_documents=1, max_concurrency=3)
    assert scores_of(scorer, TEXTS * 3) == [score(QUERY, text) for text in TEXTS * 3]
    assert server.most_in_flight == 3


def test_a_partial_answer_names_what_was_not_scored(server, build):
    def choose(request: SeenRequest) -> Fault:
        bad = request.json["data"]["documents"][0]["text"] == TEXTS[1]
        return container_answer(400, "unreadable") if bad else Right()

    server.choose = choose
    ranking = Reranker(build(max_documents=1, allow_partial=True)).rank(QUERY, TEXTS)
    assert ranking.unscored == (1,)
    assert "unreadable" in (ranking.degraded or "")


def test_what_is_shown_and_what_decides_the_scores():
    plain = SageMakerScorer("rerank-1")
    assert (plain.model, plain.listwise) == ("rerank-1", False)
    assert "'rerank-1'" in repr(plain)
    assert "eu-central-1" in plain.fingerprint
    assert SageMakerScorer("rerank-1", timeout=1).fingerprint == plain.fingerprint
    others = [
        SageMakerScorer("rerank-2"),
        SageMakerScorer("rerank-1", region_name="eu-west-1"),
        SageMakerScorer("rerank-1", request_form="list"),
        SageMakerScorer("rerank-1", model="jina-reranker-v3"),
    ]
    assert len({plain.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert others[-1].listwise
    assert not SageMakerScorer("rerank-1", model="jina-reranker-m0").listwise


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint_name": ""}, "endpoint_name"),
        ({"endpoint_name": "../x"}, "endpoint_name"),
        ({"endpoint_name": "-x"}, "endpoint_name"),
        ({"endpoint_name": "x" * 64}, "63"),
        ({"endpoint_name": 1}, "a string"),
        ({"endpoint_name": "arn:aws:sagemaker:eu-west-1:1:endpoint/mine"}, "'mine', not its ARN"),
        ({"request_form": "dict"}, "request_form"),
        ({"model": ""}, "model"),
        ({"region_name": ""}, "region_name"),
        ({"session": "default"}, "session"),
        ({"timeout": 0}, "timeout"),
        ({"connect_timeout": -1}, "connect_timeout"),
        ({"read_timeout": float("nan")}, "read_timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_documents": 0}, "max_documents"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_tokens": 1.5}, "max_tokens"),
    ],
)
def test_a_wrong_setting_is_refused_when_built(options, words):
    with pytest.raises(ConfigurationError, match=words):
        SageMakerScorer(**{"endpoint_name": "endpoint", **options})
