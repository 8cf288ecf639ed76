"""The request as services want it, and the answer in every shape that has been seen."""

import math

import pytest
from dialect_answers import count_tokens, score
from faults import (
    Edited,
    FaultServer,
    GzipBomb,
    Gzipped,
    HalfJson,
    Html,
    HugeBody,
    NoContentLength,
    Right,
    WrongEncoding,
)
from hypothesis import given
from hypothesis import strategies as st

from jina_rerank import (
    AuthenticationError,
    ConfigurationError,
    RemoteScorer,
    Reranker,
    ResponseError,
)
from jina_rerank.plugin import build_reranker
from jina_rerank.scorers.service.dialects import ContractError, find_dialect, read_json

QUERY = "how do I store coffee beans?"
DOCUMENTS = ["In the dark.", "Grind them finely.", "An airtight jar — 20 °C.", 'A "quoted" one.']
BEST_FIRST = sorted(range(len(DOCUMENTS)), key=lambda i: -score(QUERY, DOCUMENTS[i]))


def assert_right(reranker: Reranker) -> None:
    ranking = reranker.rank(QUERY, DOCUMENTS)
    assert [hit.index for hit in ranking] == BEST_FIRST
    assert [hit.score for hit in ranking] == [score(QUERY, DOCUMENTS[i]) for i in BEST_FIRST]
    assert [hit.text for hit in ranking] == [DOCUMENTS[i] for i in BEST_FIRST]
    assert ranking.degraded is None
    assert ranking.unscored == ()


@pytest.mark.parametrize(
    "answer",
    [
        Right(),
        Right(document="string"),
        Right(document="object"),
        Right(document="absent"),
        Right(order="shuffled"),
        Right(order="given"),
        Right(drop=["object"]),
        Right(drop=["usage", "model"]),
        Right(extra={"id": "x", "meta": None}, result_extra={"embedding": [0.1], "text": None}),
        Gzipped(),
        NoContentLength(),
    ],
)
def test_every_shape_of_a_right_answer(server: FaultServer, connect, answer) -> None:
    server.default = answer
    assert_right(connect())


def test_the_request(server: FaultServer, connect) -> None:
    connect(max_doc_length=512, truncation=False, extra_body={"user": "me"}).rank(
        QUERY, DOCUMENTS, top_n=1
    )
    (request,) = server.requests
    assert request.method == "POST"
    assert request.path == "/v1/rerank"
    assert request.headers["authorization"] == "Bearer jina_0123456789abcdef"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.json == {
        "model": "jina-reranker-v3.5",
        "query": QUERY,
        "documents": DOCUMENTS,
        "return_documents": False,
        "max_doc_length": 512,
        "truncation": False,
        "user": "me",
    }


def test_what_was_not_set_is_not_sent(server: FaultServer, connect) -> None:
    connect(model="jina-reranker-v2-base-multilingual").rank(QUERY, DOCUMENTS)
    assert server.requests[0].json.keys() == {"model", "query", "documents", "return_documents"}


def test_usage_is_the_service_s(connect) -> None:
    ranking = connect().rank(QUERY, DOCUMENTS, top_n=1)
    assert ranking.usage.documents == len(DOCUMENTS)
    assert ranking.usage.tokens == count_tokens(QUERY, DOCUMENTS)
    assert ranking.usage.truncated_documents is None
    assert ranking.model == "jina-reranker-v3.5"
    assert ranking[0].tokens is None


@pytest.mark.parametrize(
    "usage", [{}, {"total_tokens": None}, {"total_tokens": "7"}, {"total_tokens": -1}, None, 7]
)
def test_usage_that_says_nothing_is_none(server: FaultServer, connect, usage) -> None:
    server.default = Right(extra={"usage": usage})
    assert connect().rank(QUERY, DOCUMENTS).usage.tokens is None


@pytest.mark.parametrize(
    ("settings", "path", "fields"),
    [
        ({"dialect": "jina", "model": "m"}, "/v1/rerank", {"model": "m"}),
        (
            {"dialect": "cohere", "model": "rerank-v4.0-pro", "max_doc_length": 64},
            "/v2/rerank",
            {"model": "rerank-v4.0-pro", "max_tokens_per_doc": 64},
        ),
        ({"dialect": "tei", "truncation": True}, "/rerank", {"truncate": True}),
        ({"dialect": "sagemaker"}, "/invocations", {}),
    ],
)
def test_every_dialect(server: FaultServer, connect, settings, path, fields) -> None:
    assert_right(connect(**settings))
    assert server.requests[0].path == path
    assert server.requests[0].json.items() >= fields.items()


def test_dialects_tell_the_tokens_where_the_service_does(connect) -> None:
    spoken = {"sagemaker": None, "cohere": "m"}
    tokens = {
        d: connect(dialect=d, model=m).rank(QUERY, DOCUMENTS).usage for d, m in spoken.items()
    }
    assert tokens["sagemaker"].tokens == count_tokens(QUERY, DOCUMENTS)
    assert tokens["cohere"].tokens is None  # it bills by searches


def test_an_uncounted_half_is_no_count() -> None:
    answer = {"data": [{"query_usage": {"total_tokens": 6}, "results": RESULTS}]}
    assert find_dialect("sagemaker").read(answer, 2).tokens is None


RESULTS = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        ([{"index": 0, "relevance_score": 0.5}], "1 results for 2"),
        ([*RESULTS, {"index": 0, "relevance_score": 0.5}], "3 results for 2"),
        ([RESULTS[0], {"index": 1, "relevance_score": 0.5}], "second time"),
        ([RESULTS[0], {"index": 2, "relevance_score": 0.5}], "index 2"),
        ([RESULTS[0], {"index": -2, "relevance_score": 0.5}], "index -2"),
        ([RESULTS[0], {"index": "0", "relevance_score": 0.5}], "index '0'"),
        ([RESULTS[0], {"index": False, "relevance_score": 0.5}], "index False"),
        ([RESULTS[0], {"relevance_score": 0.5}], "index None"),
        ([RESULTS[0], {"index": 0}], "relevance_score None"),
        ([RESULTS[0], {"index": 0, "score": 0.5}], "relevance_score None"),
        ([RESULTS[0], {"index": 0, "relevance_score": "0.5"}], "relevance_score '0.5'"),
        ([RESULTS[0], {"index": 0, "relevance_score": True}], "relevance_score True"),
        ([RESULTS[0], {"index": 0, "relevance_score": 10**400}], "relevance_score 1000"),
        ([RESULTS[0], None], "not an object"),
        ({"0": 0.5}, "no list"),
        (None, "no list"),
    ],
)
def test_an_answer_that_breaks_the_contract(server, connect, results, problem) -> None:
    server.default = Edited(lambda right: right | {"results": results})
    with pytest.raises(ResponseError, match=problem) as caught:
        connect().rank("q", ["a", "b"])
    assert caught.value.status == 200
    assert server.received == 1  # asking again would bring the same


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number(server: FaultServer, connect, score: float) -> None:
    server.default = Edited(
        lambda right: right | {"results": [{"index": 0, "relevance_score": score}]}
    )
    with pytest.raises(ResponseError, match="no number"):
        connect().rank("q", ["a"])


@pytest.mark.parametrize("answer", [[], "text", 3, None])
def test_an_answer_of_another_kind(server: FaultServer, connect, answer) -> None:
    server.default = Edited(lambda _: answer)
    with pytest.raises(ResponseError, match="not an object"):
        connect().rank("q", ["a"])


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Html(), "begins with '<!DOCTYPE html>"),
        (HalfJson(), "not JSON"),
        (WrongEncoding("latin-1"), "not UTF-8"),
        (WrongEncoding("utf-16"), "not UTF-8"),
        (GzipBomb(64), "larger than"),
        (HugeBody(64), "larger than"),
        (HugeBody(64, declared=True), "larger than"),
    ],
)
def test_an_answer_that_is_none(server: FaultServer, connect, fault, problem: str) -> None:
    server.default = fault
    with pytest.raises(ResponseError, match=problem):
        connect().rank(QUERY, DOCUMENTS)
    assert server.received == 1


def test_a_service_that_sends_long_documents_back_is_not_too_large(server, connect) -> None:
    server.default = Right(document="object")
    long = ["я" * 400_000, "漢" * 300_000, '"\\\n' * 200_000]
    assert sorted(connect().score(QUERY, long)) == sorted(score(QUERY, text) for text in long)


def test_negative_scores_are_kept(server: FaultServer, connect) -> None:
    server.default = Edited(
        lambda right: right | {"results": [{"index": 0, "relevance_score": -0.003}]}
    )
    assert connect().score("q", ["a"]) == [-0.003]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_body_breaks_the_reading(body: bytes) -> None:
    for name in ("jina", "cohere", "tei", "sagemaker"):
        with pytest.raises(ContractError):
            find_dialect(name).read(read_json(body), 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["results", "data", "index", "relevance_score", "score", "usage", "meta"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_json_breaks_the_reading(answer: object) -> None:
    for name in ("jina", "cohere", "tei", "sagemaker"):
        try:
            read = find_dialect(name).read(answer, 1)
        except ContractError:
            continue
        assert len(read.scores) == 1
        assert math.isfinite(read.scores[0])


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("", "/v1/rerank"),
        ("/", "/v1/rerank"),
        ("/v1", "/v1/rerank"),
        ("/v1/", "/v1/rerank"),
        ("/v1/rerank", "/v1/rerank"),
        ("/v1/rerank/", "/v1/rerank"),
        ("/rerank", "/rerank"),  # servers that have this one alone
        ("/proxy/jina", "/proxy/jina/v1/rerank"),
        ("/proxy/v1", "/proxy/v1/rerank"),
    ],
)
def test_a_base_url_however_it_is_written(server, connect, base_url: str, path: str) -> None:
    server.choose = lambda request: Edited(lambda _: {"results": RESULTS})
    connect(base_url=server.url + base_url).rank("q", ["a", "b"])
    assert server.requests[0].path == path


@pytest.mark.parametrize(
    "base_url",
    [
        "api.jina.ai",
        "ftp://api.jina.ai",
        "https://",
        "https://api jina.ai",
        "https://api.jina.ai:port",
        "https://user:secret-password@api.jina.ai",
        "https://api.jina.ai?key=secret-password",
        "https://api.jina.ai/#secret-password",
        "http://[::1",
        "http://\udcff",
        "http://localhost/\udcff",
        "",
        3,
    ],
)
def test_a_base_url_that_cannot_be_used(base_url: object) -> None:
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        RemoteScorer(base_url=base_url, api_key="k" * 20)
    assert "secret-password" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"dialect": "openai"}, "dialect"),
        ({"dialect": "tei"}, "base_url is missing"),
        ({"dialect": "cohere"}, "model is missing"),
        ({"dialect": "cohere", "model": "m", "truncation": True}, "truncation"),
        ({"dialect": "tei", "base_url": "http://x", "max_doc_length": 3}, "max_doc_length"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"model": " "}, "model"),
        ({"model": "m\ud800"}, "model.*half of a character"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"timeout": "30"}, "timeout"),
        ({"connect_timeout": -1}, "connect_timeout"),
        ({"read_timeout": None}, "read_timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"max_documents": 0}, "max_documents"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_doc_length": 0}, "max_doc_length"),
        ({"truncation": "yes"}, "truncation"),
        ({"extra_body": {"documents": []}}, "documents"),
        ({"extra_body": {"top_n": 3}}, "top_n"),
        ({"extra_body": {"x": {1, 2}}}, "JSON"),
        ({"extra_body": {"x": math.nan}}, "JSON"),
        ({"extra_body": 5}, "extra_body must be a dictionary"),
        ({"extra_body": "abc"}, "extra_body must be a dictionary"),
        ({"extra_body": [("a", 1)]}, "extra_body must be a dictionary"),
        ({"extra_body": {3: "x"}}, "extra_body must be a dictionary"),
        ({"extra_body": {"user": "\udcff"}}, "extra_body.*half of a character"),
        ({"extra_body": {"\udcff": 1}}, "extra_body.*half of a character"),
        ({"headers": {"X-Bad": "line\nbreak"}}, "X-Bad"),
        ({"headers": {"bad name": "x"}}, "headers"),
        ({"headers": {"X": 3}}, "headers"),
    ],
)
def test_a_setting_that_cannot_be_used(settings, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        RemoteScorer(**{"api_key": "k" * 20} | settings)


def test_a_plugin_s_model_that_is_no_name() -> None:
    with pytest.raises(ConfigurationError, match="model must be a name"):
        build_reranker(backend="remote", api_key="k" * 20, model=3)


def test_the_hosted_services_want_a_key() -> None:
    with pytest.raises(AuthenticationError, match="JINA_API_KEY or JINAAI_API_KEY"):
        RemoteScorer()
    with pytest.raises(AuthenticationError, match="pass api_key"):
        RemoteScorer("rerank-v4.0-pro", dialect="cohere")


def test_a_service_of_one_s_own_needs_none(server: FaultServer, connect) -> None:
    connect(api_key=None).rank(QUERY, DOCUMENTS)
    assert "authorization" not in server.requests[0].headers


def test_no_documents_cost_no_request(server: FaultServer, connect) -> None:
    assert list(connect().rank(QUERY, [])) == []
    assert server.received == 0


def test_many_queries_at_once(server: FaultServer, connect) -> None:
    pairs = [(f"query {i}", [f"document {i} {j}" for j in range(i % 4)]) for i in range(20)]
    rankings = connect().rank_many(pairs)
    for (query, documents), ranking in zip(pairs, rankings, strict=True):
        expected = sorted(documents, key=lambda text: -score(query, text))
        assert [hit.text for hit in ranking] == expected
    assert server.received == 15


async def test_async_gives_the_same(connect) -> None:
    reranker = connect()
    assert await reranker.arank(QUERY, DOCUMENTS) == reranker.rank(QUERY, DOCUMENTS)
