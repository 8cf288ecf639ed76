"""Requests to a service and its answers, compared with Jina's own client."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from dialect_answers import ERROR_BODIES, score
from faults import CloseIdle, Edited, RateLimited, Redirect, ResetBefore, Right, Status
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent
from llama_index.core.schema import NodeWithScore, TextNode

from jina_rerank import AuthenticationError, ResponseError, ServiceError
from llama_index.postprocessor.jina_rerank import JinaRerank

KEY = "jina_0123456789abcdef"
OTHER_KEY = "jina_fedcba9876543210"
QUERY = "where is the dog"
TEXTS = ["the dog is in my house", "he likes dog", "bread is baked", "kaffee für zwei"]
RANKED = sorted(((text, score(QUERY, text)) for text in TEXTS), key=lambda pair: -pair[1])


@pytest.fixture
def nodes():
    return [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]


def pairs(nodes):
    return [(node.text, node.score) for node in nodes]


def test_what_is_sent(remote, server, nodes):
    nodes[0].node.metadata = {"page": 1}
    remote(top_n=2, threshold=0.1).postprocess_nodes(nodes, query_str=QUERY)
    (request,) = server.requests
    # Neither top_n nor threshold: all scores are wanted, and the cut is made here.
    assert request.json == {
        "model": "jina-reranker-v3.5",
        "query": QUERY,
        "documents": ["page: 1\n\n" + TEXTS[0], *TEXTS[1:]],
        "return_documents": False,
    }
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_the_model_may_be_named(remote, server, nodes):
    remote(model="jina-reranker-m0").postprocess_nodes(nodes, query_str=QUERY)
    assert server.requests[0].json["model"] == "jina-reranker-m0"


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"JINA_API_KEY": KEY}, KEY),
        ({"JINAAI_API_KEY": KEY}, KEY),
        ({"JINA_API_KEY": KEY, "JINAAI_API_KEY": OTHER_KEY}, KEY),
        ({"JINA_API_KEY": "", "JINAAI_API_KEY": KEY}, KEY),
    ],
)
def test_a_key_comes_from_the_environment(server, nodes, monkeypatch, variables, key):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    rerank = JinaRerank(backend="remote", base_url=server.url)
    rerank.postprocess_nodes(nodes, query_str=QUERY)
    assert server.requests[0].headers["authorization"] == f"Bearer {key}"


def test_a_key_given_goes_before_the_environment(remote, server, nodes, monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", OTHER_KEY)
    remote(api_key=KEY).postprocess_nodes(nodes, query_str=QUERY)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("dialect", ["cohere", "tei", "sagemaker"])
def test_a_key_in_the_environment_is_for_jinas_dialect_only(
    remote, server, nodes, monkeypatch, dialect
):
    monkeypatch.setenv("JINA_API_KEY", KEY)
    remote(api_key=None, dialect=dialect, model="m").postprocess_nodes(nodes, query_str=QUERY)
    (request,) = server.requests
    assert KEY not in str(request.headers) + request.body.decode()


def test_the_hosted_service_wants_a_key():
    with pytest.raises(AuthenticationError, match="set JINA_API_KEY or JINAAI_API_KEY"):
        JinaRerank(backend="remote")


@pytest.mark.parametrize("key", ["", "jina 1", "jina_1\n", "jina_é"])
def test_a_key_that_is_none_is_refused_when_built(key):
    with pytest.raises(AuthenticationError, match="api_key"):
        JinaRerank(backend="remote", api_key=key)


def test_a_server_of_ones_own_needs_no_key(remote, server, nodes):
    assert len(remote(api_key=None).postprocess_nodes(nodes, query_str=QUERY)) == 4
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/rerank", "/v1/rerank/"])
def test_a_base_url_may_be_written_as_one_likes(remote, server, nodes, suffix):
    remote(base_url=server.url + suffix).postprocess_nodes(nodes, query_str=QUERY)
    assert server.requests[0].path == "/v1/rerank"


@pytest.mark.parametrize("dialect", ["jina", "cohere", "tei", "sagemaker"])
def test_every_dialect_gives_the_same_ranking(remote, nodes, dialect):
    reranked = remote(dialect=dialect, model="m").postprocess_nodes(nodes, query_str=QUERY)
    assert [n.text for n in reranked] == [text for text, _ in RANKED]
    assert [n.score for n in reranked] == pytest.approx([s for _, s in RANKED], abs=1e-6)


@pytest.mark.parametrize(
    "answer",
    [
        Right(document="string"),
        Right(document="object"),
        Right(document="absent"),
        Right(order="shuffled"),
        Right(order="given"),
        Right(drop=["model"]),
        Right(drop=["usage"]),
        Right(drop=["model", "object", "usage"]),
        Right(extra={"usage": None, "model": None}),
        Right(result_extra={"embedding": None}),
    ],
    ids=str,
)
def test_answers_in_any_shape(remote, server, nodes, answer):
    server.default = answer
    reranked = remote(top_n=3).postprocess_nodes(nodes, query_str=QUERY)
    assert pairs(reranked) == RANKED[:3]


def test_a_usage_that_is_not_told_is_none(remote, server, nodes, events):
    server.default = Right(drop=["model", "usage"])
    remote().postprocess_nodes(nodes, query_str=QUERY)
    tags = events.of(ReRankEndEvent)[0].tags["jina_rerank"]
    assert tags["model"] == "jina-reranker-v3.5"
    assert (tags["usage"]["documents"], tags["usage"]["tokens"]) == (4, None)


def results(change):
    return Edited(lambda payload: payload | {"results": change(payload["results"])})


@pytest.mark.parametrize(
    "answer",
    [
        results(lambda all_of_them: all_of_them[:-1]),
        results(lambda all_of_them: []),
        results(lambda all_of_them: [*all_of_them[:-1], all_of_them[0]]),
        results(lambda all_of_them: [*all_of_them[:-1], all_of_them[-1] | {"index": -1}]),
        results(lambda all_of_them: [*all_of_them[:-1], all_of_them[-1] | {"index": 4}]),
        results(lambda all_of_them: [*all_of_them[:-1], all_of_them[-1] | {"index": "0"}]),
        results(lambda all_of_them: [r | {"relevance_score": None} for r in all_of_them]),
        results(lambda all_of_them: [r | {"relevance_score": float("nan")} for r in all_of_them]),
        Edited(lambda payload: {"error": "none of your business"}),
        Edited(lambda payload: None),
        Status(200, "<html>welcome</html>"),
        Status(200),
    ],
    ids=[
        "one missing",
        "none",
        "one twice",
        "negative index",
        "index beyond",
        "index as text",
        "no score",
        "nan",
        "error as 200",
        "null",
        "html",
        "empty",
    ],
)
def test_an_answer_that_breaks_the_contract_is_an_error(remote, server, nodes, answer):
    server.default = answer
    with pytest.raises(ResponseError):
        remote(max_retries=0).postprocess_nodes(nodes, query_str=QUERY)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 500, 503])
def test_a_status_with_any_body_is_an_error_of_ours(remote, server, nodes, status):
    rerank = remote(max_retries=0)
    for body in ERROR_BODIES.values():
        server.default = Status(status, body)
        with pytest.raises(ServiceError) as caught:
            rerank.postprocess_nodes(nodes, query_str=QUERY)
        assert caught.value.status == status


@pytest.mark.parametrize(
    "fault",
    [Status(503), RateLimited(retry_after="0"), ResetBefore()],
    ids=["503", "429", "reset"],
)
async def test_a_failure_that_passes_is_not_seen(remote, server, nodes, fault):
    rerank = remote()
    for times in (1, 2):
        server.reset()
        server.script(*[fault] * times)
        assert pairs(await rerank.apostprocess_nodes(nodes, query_str=QUERY)) == RANKED
        assert server.received == 1 + times


def test_redirects_take_the_key_nowhere(remote, server, nodes):
    server.default = Redirect("/elsewhere/v1/rerank")
    with pytest.raises(ServiceError):
        remote().postprocess_nodes(nodes, query_str=QUERY)
    assert [request.path for request in server.requests] == ["/v1/rerank"]


async def test_connections_are_used_again(remote, server, nodes):
    rerank = remote()
    for _ in range(3):
        rerank.postprocess_nodes(nodes, query_str=QUERY)
        await rerank.apostprocess_nodes(nodes, query_str=QUERY)
    assert (server.received, server.connections) == (6, 1)


def test_a_connection_that_the_service_has_closed_is_not_missed(remote, server, nodes):
    server.default = CloseIdle()
    rerank = remote(max_retries=1)
    for _ in range(3):
        assert pairs(rerank.postprocess_nodes(nodes, query_str=QUERY)) == RANKED


class Together:
    """Right answers, once as many requests as this wait for theirs at the same time."""

    def __init__(self, parties):
        self.barrier = asyncio.Barrier(parties)

    async def answer(self, exchange):
        await self.barrier.wait()
        await Right().answer(exchange)


async def test_async_calls_do_not_wait_for_each_other(remote, server, nodes):
    server.default = Together(4)  # as many as go to a service that is not known yet
    rerank = remote(max_retries=0)
    calls = (rerank.apostprocess_nodes(nodes, query_str=QUERY) for _ in range(4))
    assert [pairs(found) for found in await asyncio.gather(*calls)] == [RANKED] * 4


def test_threads_do_not_wait_for_each_other(remote, server, nodes):
    server.default = Together(4)
    rerank = remote(max_retries=0)
    together = threading.Barrier(4)

    def ask(_):
        together.wait(timeout=30)
        return pairs(rerank.postprocess_nodes(nodes, query_str=QUERY))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == [RANKED] * 4


def test_more_nodes_than_a_request_takes_are_split_and_merged(remote, server):
    texts = [f"text {i}" for i in range(1300)]
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in texts]
    reranked = remote(top_n=5).postprocess_nodes(nodes, query_str=QUERY)
    expected = sorted(((t, score(QUERY, t)) for t in texts), key=lambda pair: -pair[1])
    assert pairs(reranked) == expected[:5]
    assert max(len(r.json["documents"]) for r in server.requests) <= 512
    assert sum(len(r.json["documents"]) for r in server.requests) == 1300


@pytest.mark.parametrize("model", ["jina-reranker-v3.5", "jina-reranker-v2-base-multilingual"])
def test_jinas_own_client_agrees(remote, server, nodes, model):
    official = pytest.importorskip("llama_index.postprocessor.jinaai_rerank")
    nodes[1].node.metadata = {"page": 1}
    theirs = official.JinaRerank(
        top_n=3, model=model, base_url=f"{server.url}/v1", api_key=KEY
    ).postprocess_nodes(nodes, query_str=QUERY)
    ours = remote(top_n=3, model=model).postprocess_nodes(nodes, query_str=QUERY)
    assert len(theirs) == 3
    assert pairs(ours) == pairs(theirs)
    assert [n.node for n in ours] == [n.node for n in theirs]
    asked_by_them, asked_by_us = (request.json for request in server.requests)
    assert asked_by_us["documents"] == asked_by_them["documents"]
