"""An answer of another scorer instead of none, which says so."""

import pickle
import time
from collections.abc import Callable, Iterator

import pytest
from dialect_answers import score
from faults import FaultServer, Hang, Html, RateLimited, ResetBefore, Right, Status

from jina_rerank import (
    AuthenticationError,
    ConfigurationError,
    FallbackScorer,
    InputError,
    InsufficientBalanceError,
    LocalScorer,
    ModelLoadError,
    RateLimitError,
    RejectedInputError,
    RejectedSettingError,
    RemoteScorer,
    Reranker,
    RetrievalOrder,
    ServerError,
)
from jina_rerank.testing import FakeScorer

DOCUMENTS = ["one", "two", "three", "four"]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def remote(server: FaultServer) -> Iterator[RemoteScorer]:
    scorer = RemoteScorer(
        "remote-model", base_url=server.url, timeout=0.5, max_retries=0, max_documents=100
    )
    yield scorer
    scorer.close()


class Failing(FakeScorer):
    """Fails as told, and counts how often it was asked."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__()
        self.error = error
        self.asked = 0

    @property
    def model(self) -> str:
        return "failing"

    def score(self, requests, on_scored=None):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return super().score(requests, on_scored)


def test_while_all_is_well_nothing_is_degraded(server: FaultServer, remote) -> None:
    second = FakeScorer()
    ranking = Reranker(FallbackScorer(remote, second)).rank("q", DOCUMENTS, threshold=0.0)
    assert ranking.degraded is None
    assert ranking.model == "remote-model"
    assert [hit.score for hit in ranking] == sorted(
        (score("q", text) for text in DOCUMENTS), reverse=True
    )
    assert second.requests == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Status(503), "ServerError"),
        (Html(502), "ServerError"),
        (Html(200), "ResponseError"),
        (RateLimited(retry_after="60"), "RateLimitError"),
        (Hang(), "RequestTimeoutError"),
        (ResetBefore(), "ConnectionFailedError"),
    ],
)
def test_an_outage_is_bridged_and_told(server: FaultServer, remote, fault, reason: str) -> None:
    server.default = fault
    second = FakeScorer(lambda _, text: len(text) / 10)
    ranking = Reranker(FallbackScorer(remote, second)).rank("q", DOCUMENTS, top_n=2)
    assert [hit.text for hit in ranking] == ["three", "four"]
    assert ranking.degraded is not None
    assert f"remote-model failed ({reason}: " in ranking.degraded
    assert "scored by fake" in ranking.degraded
    assert ranking.model == "fake"
    assert ranking.unscored == ()


def test_a_model_on_this_machine_as_the_second(server: FaultServer, remote) -> None:
    server.default = Status(503)
    local = LocalScorer()
    reranker = Reranker(FallbackScorer(remote, local))
    query, documents = "capital of France?", ["Rome is in Italy.", "Paris is."]
    ranking = reranker.rank(query, documents)
    assert ranking.hits == Reranker(local).rank(query, documents).hits
    assert ranking.model == "jina-rerank-mini"
    assert ranking.degraded is not None


async def test_async_gives_the_same(server: FaultServer, remote) -> None:
    server.default = Status(503)
    reranker = Reranker(FallbackScorer(remote, FakeScorer(), cooldown=0.001))
    assert (await reranker.arank("q", DOCUMENTS)).hits == reranker.rank("q", DOCUMENTS).hits
    assert (await reranker.arank("q", DOCUMENTS)).degraded is not None


def test_the_order_of_retrieval_as_the_last_resort(server: FaultServer, remote) -> None:
    server.default = Status(503)
    scorer = FallbackScorer(remote, Failing(ServerError("down too")), RetrievalOrder())
    ranking = Reranker(scorer).rank("q", DOCUMENTS, top_n=3)
    assert [hit.text for hit in ranking] == DOCUMENTS[:3]
    assert ranking.unscored == (0, 1, 2, 3)
    assert ranking.model == "retrieval-order"
    reason = ranking.degraded or ""
    assert reason.index("remote-model failed") < reason.index("failing failed")
    assert reason.endswith("the order of retrieval was kept")


def test_retrieval_order_survives_being_sorted_later() -> None:
    scores = Reranker(RetrievalOrder()).score("q", [f"{i}" for i in range(1000)])
    assert len(set(scores)) == 1000
    assert scores == sorted(scores, reverse=True)
    assert 0 < min(scores) <= max(scores) <= 1


@pytest.mark.parametrize("threshold", [0.5, 1.0, 30.0])
def test_a_threshold_does_not_empty_a_degraded_answer(server, remote, threshold) -> None:
    server.default = Status(503)
    for second in (FakeScorer(lambda *_: 0.01), RetrievalOrder()):
        ranking = Reranker(FallbackScorer(remote, second)).rank("q", DOCUMENTS, threshold=threshold)
        assert len(ranking) == 4


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Status(401), AuthenticationError),
        (Status(402), InsufficientBalanceError),
        (Status(404), RejectedSettingError),
        (Status(422), RejectedInputError),
    ],
)
def test_what_does_not_pass_by_itself_is_raised(server, remote, fault, kind) -> None:
    server.default = fault
    with pytest.raises(kind):
        Reranker(FallbackScorer(remote, FakeScorer())).rank("q", DOCUMENTS)


@pytest.mark.parametrize("kind", [ConfigurationError, ModelLoadError, RuntimeError])
def test_neither_is_an_error_of_ours_bridged(kind: Callable[[str], Exception]) -> None:
    with pytest.raises(kind, match="broken"):
        Reranker(FallbackScorer(Failing(kind("broken")), FakeScorer())).rank("q", DOCUMENTS)


def test_bad_input_is_raised_and_asks_nobody() -> None:
    first = Failing(None)
    with pytest.raises(InputError):
        Reranker(FallbackScorer(first, FakeScorer())).rank(" ", DOCUMENTS)
    assert first.asked == 0


def test_if_all_fail_the_last_error_is_raised() -> None:
    scorer = FallbackScorer(Failing(RateLimitError("slow down")), Failing(ServerError("down")))
    with pytest.raises(ServerError, match="down"):
        Reranker(scorer).rank("q", DOCUMENTS)


def test_a_failed_primary_is_left_alone_for_a_while(monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first = Failing(ServerError("down"))
    reranker = Reranker(FallbackScorer(first, FakeScorer(), cooldown=5.0))
    for _ in range(4):
        assert reranker.rank("q", DOCUMENTS).degraded is not None
    assert first.asked == 1
    assert "left alone" in (reranker.rank("q", DOCUMENTS).degraded or "")
    now += 5.1
    for _ in range(4):
        assert reranker.rank("q", DOCUMENTS).degraded is not None
    assert first.asked == 2
    first.error = None
    now += 5.1
    assert reranker.rank("q", DOCUMENTS).degraded is None
    assert reranker.rank("q", DOCUMENTS).degraded is None
    assert first.asked == 4


def test_a_longer_wait_that_the_service_asks_for_is_kept(monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first = Failing(RateLimitError("slow down", 429, retry_after=60.0))
    reranker = Reranker(FallbackScorer(first, FakeScorer(), cooldown=5.0))
    reranker.rank("q", DOCUMENTS)
    now += 59.0
    reranker.rank("q", DOCUMENTS)
    assert first.asked == 1
    now += 2.0
    reranker.rank("q", DOCUMENTS)
    assert first.asked == 2


def test_a_wait_of_a_day_is_not_taken_at_its_word(monkeypatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first = Failing(RateLimitError("slow down", 429, retry_after=86_400.0))
    reranker = Reranker(FallbackScorer(first, FakeScorer()))
    reranker.rank("q", DOCUMENTS)
    now += 301.0
    reranker.rank("q", DOCUMENTS)
    assert first.asked == 2


def test_a_service_that_comes_back_is_used_again(server: FaultServer, remote) -> None:
    reranker = Reranker(FallbackScorer(remote, FakeScorer(), cooldown=0.01))
    server.default = Status(503)
    assert reranker.rank("q", DOCUMENTS).degraded is not None
    server.default = Right()
    end = time.monotonic() + 5
    while reranker.rank("q", DOCUMENTS).degraded is not None:
        assert time.monotonic() < end


def test_all_are_warmed_up_and_closed() -> None:
    scorers = [FakeScorer(), FakeScorer(), FakeScorer()]
    with Reranker(FallbackScorer(*scorers)) as reranker:
        reranker.warm_up()
        assert [scorer.warm_ups for scorer in scorers] == [1, 1, 1]
    assert all(scorer.closed for scorer in scorers)


async def test_all_are_warmed_up_and_closed_async() -> None:
    scorers = [FakeScorer(), FakeScorer()]
    async with Reranker(FallbackScorer(*scorers)) as reranker:
        await reranker.awarm_up()
        assert [scorer.warm_ups for scorer in scorers] == [1, 1]
    assert all(scorer.closed for scorer in scorers)


def test_it_pickles_without_the_outage() -> None:
    scorer = FallbackScorer(
        RemoteScorer(base_url="http://127.0.0.1:9", timeout=1), RetrievalOrder()
    )
    assert Reranker(scorer).rank("q", DOCUMENTS).degraded is not None
    copied = pickle.loads(pickle.dumps(scorer))
    assert "RetrievalOrder()" in repr(copied)
    assert "left alone" not in (Reranker(copied).rank("q", DOCUMENTS).degraded or "")
    copied.close()
    scorer.close()


@pytest.mark.parametrize("scorer", [None, "jina-reranker-v3.5"])
def test_what_is_no_scorer_is_refused(scorer: object) -> None:
    with pytest.raises(ConfigurationError, match="secondary must be a scorer"):
        FallbackScorer(FakeScorer(), scorer)


@pytest.mark.parametrize("cooldown", [0, -1, float("nan"), "5"])
def test_a_cooldown_that_cannot_be_used(cooldown) -> None:
    with pytest.raises(ConfigurationError, match="cooldown"):
        FallbackScorer(FakeScorer(), FakeScorer(), cooldown=cooldown)
