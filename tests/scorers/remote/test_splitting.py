"""Large inputs: split and merged exactly, and nothing dropped."""

import json
import re
import threading
import time

import pytest
from dialect_answers import count_tokens, score
from faults import FaultServer, Hang, MaxInFlight, Right, Slow, Status, TooLarge
from hypothesis import given
from hypothesis import strategies as st

from jina_rerank import (
    AuthenticationError,
    Progress,
    RateLimitError,
    RejectedInputError,
    RemoteScorer,
    Reranker,
    ScoreRequest,
    ServerError,
    ServiceError,
)
from jina_rerank.scorers.service.parts import Part, PartScores, merge, split
from jina_rerank.scorers.service.settings import PartLimits

DOCUMENTS = [f"document number {i}" for i in range(40)]


@pytest.fixture(scope="module")
def shared_server():
    with FaultServer() as server:
        yield server


@given(
    documents=st.lists(st.text(alphabet='ab "\\é漢😀', min_size=1, max_size=20), min_size=1),
    max_documents=st.integers(1, 20),
    max_bytes=st.integers(1, 400),
    max_tokens=st.integers(1, 400),
    top_n=st.none() | st.integers(1, 10),
)
def test_split_and_unsplit_give_the_same_ranking(
    shared_server, documents, max_documents, max_bytes, max_tokens, top_n
) -> None:
    if all(text.isspace() for text in documents):
        documents = ["a", *documents]
    url = shared_server.url
    with (
        Reranker(RemoteScorer(base_url=url, max_documents=10_000)) as whole,
        Reranker(
            RemoteScorer(
                base_url=url,
                max_documents=max_documents,
                max_bytes=max_bytes,
                max_tokens=max_tokens,
            )
        ) as split_up,
    ):
        expected = whole.rank("q é", documents, top_n=top_n)
        ranking = split_up.rank("q é", documents, top_n=top_n)
    assert ranking.hits == expected.hits
    best = sorted(range(len(documents)), key=lambda i: -score("q é", documents[i]))[:top_n]
    assert [hit.index for hit in ranking] == best


REQUESTS = st.lists(
    st.builds(
        ScoreRequest,
        query=st.text(min_size=1, max_size=5),
        documents=st.lists(st.text(max_size=30), min_size=1, max_size=30),
    ),
    max_size=4,
)
LIMITS = st.builds(PartLimits, st.integers(1, 9), st.integers(1, 300), st.integers(1, 300))


@given(REQUESTS, LIMITS)
def test_parts_hold_everything_once_and_keep_the_limits(requests, limits: PartLimits) -> None:
    parts = split(requests, limits)
    for number, request in enumerate(requests):
        own = [part for part in parts if part.request == number]
        assert [text for part in own for text in part.documents] == request.documents
        assert all(part.query == request.query for part in own)
    for part in parts:
        assert (
            part.documents == requests[part.request].documents[part.start :][: len(part.documents)]
        )
        assert len(part.documents) <= limits.documents
        if len(part.documents) > 1:
            size = len(part.query.encode()) + sum(len(text.encode()) for text in part.documents)
            assert size <= limits.size


@given(REQUESTS, LIMITS, st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_the_order_of_answers(requests, limits, random) -> None:
    parts = split(requests, limits)
    random.shuffle(parts)
    answers = [
        (part, PartScores([score(part.query, text) for text in part.documents], 1))
        for part in parts
    ]
    for number, response in enumerate(merge(requests, answers, [])):
        request = requests[number]
        assert response.scores == [score(request.query, text) for text in request.documents]
        assert response.usage.tokens == sum(part.request == number for part in parts)
        assert response.degraded is None


def test_splitting_by_count(server: FaultServer, connect) -> None:
    ranking = connect(max_documents=16).rank("q", DOCUMENTS)
    assert sorted(len(r.json["documents"]) for r in server.requests) == [8, 16, 16]
    # The query is counted with each part, as the service counts it.
    assert ranking.usage.tokens == count_tokens("q", DOCUMENTS) + 2
    assert ranking.usage.documents == 40


def test_splitting_by_bytes(server: FaultServer, connect) -> None:
    texts = ['"' * 1000] * 10  # 2,002 bytes each, once escaped
    connect(max_bytes=5_000).rank("q", texts)
    assert [len(r.json["documents"]) for r in server.requests] == [2] * 5
    assert all(len(request.body) < 5_200 for request in server.requests)


def test_splitting_by_estimated_tokens(server: FaultServer, connect) -> None:
    connect(max_tokens=1_000).rank("q", ["word " * 200] * 9)  # 200 tokens, 334 by the estimate
    assert max(len(r.json["documents"]) for r in server.requests) == 2


def test_tei_s_limit_of_32(server: FaultServer, connect) -> None:
    connect(dialect="tei").rank("q", DOCUMENTS)
    assert sorted(len(r.json["texts"]) for r in server.requests) == [8, 32]


@pytest.mark.parametrize(
    ("dialect", "fault"),
    [
        ("jina", TooLarge(max_documents=7)),
        ("jina", TooLarge(max_documents=7, status=504)),
        ("jina", TooLarge(max_bytes=200)),
        ("sagemaker", TooLarge(max_documents=7)),
        ("tei", TooLarge(max_documents=7, status=422)),
        ("tei", TooLarge(max_documents=7, status=413)),
    ],
)
def test_a_part_that_is_too_large_is_split_further(server, connect, dialect, fault) -> None:
    server.default = fault
    ranking = connect(dialect=dialect, max_documents=20).rank("q", DOCUMENTS)
    assert {hit.index for hit in ranking} == set(range(40))
    assert [hit.score for hit in ranking] == sorted(
        (score("q", text) for text in DOCUMENTS), reverse=True
    )


def test_a_document_that_is_too_large_alone_is_an_error(server: FaultServer, connect) -> None:
    server.default = TooLarge(max_bytes=1_000)
    with pytest.raises(RejectedInputError) as caught:
        connect().rank("q", ["short", "long " * 1000])
    assert caught.value.status == 413


def test_an_outage_of_504s_does_not_split_into_single_documents(server, connect) -> None:
    server.default = Status(504)
    with pytest.raises(ServerError):
        connect(max_retries=0).rank("q", [f"{i}" for i in range(500)])
    assert server.received < 60


def test_the_pace_adapts_to_what_the_service_allows(server: FaultServer, connect) -> None:
    server.default = MaxInFlight(2, delay=0.02)
    ranking = connect(max_documents=1, timeout=30).rank("q", DOCUMENTS)
    assert {hit.index for hit in ranking} == set(range(40))
    assert server.most_in_flight <= 4  # where it starts; it has not grown since
    assert server.received < 40 + 15


def test_the_pace_grows_to_its_limit(server: FaultServer, connect) -> None:
    server.default = Slow(0.03)
    connect(max_documents=1, max_concurrency=12).rank("q", [f"{i}" for i in range(100)])
    assert server.most_in_flight == 12


def test_a_small_call_does_not_wait_for_a_large_one(server: FaultServer, connect) -> None:
    server.default = Slow(0.02)
    reranker = connect(max_documents=1, max_concurrency=4, timeout=30)
    finished: list[str] = []

    def run(name: str, count: int) -> None:
        reranker.rank(name, [f"{i}" for i in range(count)])
        finished.append(name)

    large = threading.Thread(target=run, args=("large", 200))
    large.start()
    while server.received < 8:
        time.sleep(0.001)
    run("small", 2)
    large.join()
    assert finished == ["small", "large"]


def fail_documents(*failing: str, fault):
    def choose(request):
        return fault if set(failing) & set(request.json["documents"]) else Right()

    return choose


def test_a_failed_part_fails_the_call(server: FaultServer, connect) -> None:
    server.choose = fail_documents(DOCUMENTS[11], fault=Status(500))
    with pytest.raises(ServerError):
        connect(max_documents=10, max_retries=0).rank("q", DOCUMENTS)


def test_a_failed_part_is_reported_if_asked(server: FaultServer, connect) -> None:
    server.choose = fail_documents(DOCUMENTS[11], DOCUMENTS[35], fault=Status(500))
    reranker = connect(max_documents=10, max_retries=0, allow_partial=True)
    ranking = reranker.rank("q", DOCUMENTS, threshold=0.99)
    lost = [*range(10, 20), *range(30, 40)]
    assert ranking.unscored == tuple(lost)
    assert ranking.degraded is not None
    assert "20 of 40 documents were not scored" in ranking.degraded
    assert "500" in ranking.degraded
    scored = [i for i in range(40) if i not in lost]
    order = sorted(scored, key=lambda i: -score("q", DOCUMENTS[i]))
    assert [hit.index for hit in ranking] == order + lost
    assert [hit.score for hit in ranking][:20] == [score("q", DOCUMENTS[i]) for i in order]
    assert ranking.usage.documents == 20
    json.dumps(ranking.to_dict(), allow_nan=False)


def test_a_part_that_misses_the_deadline_is_reported_too(server: FaultServer, connect) -> None:
    server.choose = fail_documents(DOCUMENTS[0], fault=Hang())
    reranker = connect(max_documents=10, timeout=1.0, allow_partial=True)
    ranking = reranker.rank("q", DOCUMENTS)
    assert ranking.unscored == tuple(range(10))
    assert "did not answer within" in (ranking.degraded or "")


def test_all_parts_failed_is_an_error_all_the_same(server: FaultServer, connect) -> None:
    server.default = Status(500)
    with pytest.raises(ServerError):
        connect(max_documents=10, max_retries=0, allow_partial=True).rank("q", DOCUMENTS)


def test_a_wrong_key_is_never_partial(server: FaultServer, connect) -> None:
    server.choose = fail_documents(DOCUMENTS[0], fault=Status(401))
    with pytest.raises(AuthenticationError):
        connect(max_documents=10, allow_partial=True).rank("q", DOCUMENTS)


def test_one_query_of_many_that_failed_whole(server: FaultServer, connect) -> None:
    server.choose = fail_documents("c", fault=Status(500))
    reranker = connect(max_retries=0, allow_partial=True)
    good, bad = reranker.rank_many([("q", ["a", "b"]), ("p", ["c", "d", "e"])])
    assert good.degraded is None
    assert [hit.text for hit in bad] == ["c", "d", "e"]
    assert bad.unscored == (0, 1, 2)


def test_progress_counts_every_part_once(server: FaultServer, connect) -> None:
    server.default = TooLarge(max_documents=7)
    told: list[Progress] = []
    scorer = connect(max_documents=16).scorer
    scorer.score([ScoreRequest("q", DOCUMENTS)], told.append)
    totals = [progress.tokens + progress.remaining_tokens for progress in told]
    assert max(totals) - min(totals) <= 1, "rounded"
    assert (len(told) > 3, told[-1].remaining_tokens) == (True, 0)


def test_an_error_in_one_part_stops_the_others(server: FaultServer, connect) -> None:
    slow = Slow(0.05)
    server.choose = lambda r: Status(422) if "0" in r.json["documents"] else slow
    with pytest.raises(ServiceError):
        connect(max_documents=1, max_concurrency=2).rank("q", [f"{i}" for i in range(100)])
    assert server.received < 20


def test_halves_are_the_whole() -> None:
    part = Part(1, 10, "q", ["a", "b", "c"])
    left, right = part.halves()
    assert (left, right) == (Part(1, 10, "q", ["a"]), Part(1, 11, "q", ["b", "c"]))


def test_a_concurrency_limit_that_stays_is_told(server: FaultServer, connect) -> None:
    server.default = MaxInFlight(0)
    with pytest.raises(RateLimitError) as caught:
        connect().rank("q", ["a"])
    assert caught.value.kind == "concurrency"


def refuse(text: str, detail: object):
    """Refuse the request that has this text; `detail` may depend on the text's place in it."""

    def choose(request):
        documents = request.json["documents"]
        if text not in documents:
            return Right()
        place = documents.index(text)
        return Status(422, {"detail": detail(place) if callable(detail) else detail})

    return choose


@pytest.mark.parametrize(
    "where",
    [
        lambda place: [{"loc": ["body", "documents", place], "msg": "too long"}],
        lambda place: [{"loc": ["body", "documents", place, "text"], "msg": "too long"}],
        lambda place: [{"field": f"documents[{place}]", "message": "too long"}],
        lambda place: [{"field": f"documents.{place}", "message": "too long"}],
        lambda place: [{"field": f"body -> documents -> {place}", "message": "too long"}],
    ],
)
def test_a_refused_document_has_its_place_among_those_of_the_caller(server, connect, where) -> None:
    server.choose = refuse(DOCUMENTS[4], where)
    with pytest.raises(RejectedInputError) as caught:
        connect(max_documents=3).rank("q", DOCUMENTS[:5])
    assert re.findall(r"\d+", caught.value.argument) == ["4"]
    assert caught.value.argument in str(caught.value)
    ranking = connect(max_documents=3, allow_partial=True).rank("q", DOCUMENTS[:5])
    assert caught.value.argument in (ranking.degraded or "")
    with pytest.raises(RejectedInputError) as caught:
        connect().rank("q", DOCUMENTS[:5])
    assert re.findall(r"\d+", caught.value.argument) == ["4"]
    assert "in the request" not in str(caught.value)


def test_a_refusal_without_a_place_tells_the_documents_of_its_request(server, connect) -> None:
    server.choose = refuse(DOCUMENTS[4], "too long")
    with pytest.raises(RejectedInputError, match=r"in the request of documents 3 to 4\)"):
        connect(max_documents=3).rank("q", DOCUMENTS[:5])
    with pytest.raises(RejectedInputError, match=r"in the request of document 4\)"):
        connect(max_documents=4).rank("q", DOCUMENTS[:5])
    ranking = connect(max_documents=3, allow_partial=True).rank("q", DOCUMENTS[:5])
    assert "in the request of documents 3 to 4)" in (ranking.degraded or "")
    with pytest.raises(RejectedInputError) as caught:
        connect().rank("q", DOCUMENTS[:5])
    assert "in the request" not in str(caught.value)
