"""Order, top_n, threshold, many queries: with scores that are known."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jina_rerank import Ranking, Reranker, ScoreResponse, ScoringError, Usage
from jina_rerank.testing import FakeScorer

NUMBERS = Reranker(FakeScorer(lambda query, document: float(document)))
scores = st.lists(st.floats(-2, 2), min_size=1, max_size=30)


@given(scores=scores, top_n=st.none() | st.integers(1, 40), threshold=st.none() | st.floats(-2, 2))
def test_the_order_is_by_score_then_index_and_cut(
    scores: list[float], top_n: int | None, threshold: float | None
) -> None:
    ranking = NUMBERS.rank("q", [repr(s) for s in scores], top_n=top_n, threshold=threshold)
    keys = sorted((-score, index) for index, score in enumerate(scores))
    expected = [(i, -s) for s, i in keys if threshold is None or -s >= threshold][:top_n]
    assert [(hit.index, hit.score) for hit in ranking] == expected
    assert all(hit.text == repr(scores[hit.index]) for hit in ranking)


@given(scores=scores)
def test_score_answers_in_the_order_given(scores: list[float]) -> None:
    assert NUMBERS.score("q", [repr(s) for s in scores]) == scores


@given(lists=st.lists(st.lists(st.floats(0, 1), max_size=6), max_size=6))
def test_many_queries_are_as_one_by_one(lists: list[list[float]]) -> None:
    pairs = [(f"q{i}", [repr(s) for s in scores]) for i, scores in enumerate(lists)]
    one_by_one = [NUMBERS.rank(query, documents, top_n=2) for query, documents in pairs]
    assert NUMBERS.rank_many(pairs, top_n=2) == one_by_one


async def test_async_is_as_sync() -> None:
    documents = ["0.3", "0.9", "0.3"]
    assert await NUMBERS.arank("q", documents, top_n=2) == NUMBERS.rank("q", documents, top_n=2)
    assert await NUMBERS.ascore("q", documents) == NUMBERS.score("q", documents)
    pairs = [("a", documents), ("b", [])]
    assert await NUMBERS.arank_many(pairs) == NUMBERS.rank_many(pairs)


def test_no_documents_is_an_empty_ranking_and_no_work() -> None:
    scorer = FakeScorer()
    ranking = Reranker(scorer).rank("q", [])
    assert list(ranking) == []
    assert ranking.model == "fake"
    assert ranking.usage.documents == 0
    assert scorer.requests == []


def test_documents_may_be_any_iterable_and_are_left_alone() -> None:
    documents = ["0.1", "0.2"]
    assert NUMBERS.rank("q", (d for d in documents)) == NUMBERS.rank("q", documents)
    assert documents == ["0.1", "0.2"]


def test_duplicates_are_kept() -> None:
    assert [hit.index for hit in NUMBERS.rank("q", ["0.5", "0.7", "0.5"])] == [1, 0, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_an_error(bad: float) -> None:
    reranker = Reranker(FakeScorer(lambda query, document: bad if document == "b" else 0.5))
    with pytest.raises(ScoringError, match=r"documents\[1\]"):
        reranker.rank("q", ["a", "b", "c"])


class Columns(FakeScorer):
    def score(self, requests, on_scored=None):
        half = np.float32(0.5)
        return [ScoreResponse([half, half], Usage(2), tokens=[3, 4], truncated_tokens=[0, 1])]


def test_columns_are_told_apart_and_scores_are_python_floats() -> None:
    ranking = Reranker(Columns()).rank("q", ["a", "b"])
    assert [(h.logit, h.tokens, h.truncated_tokens) for h in ranking] == [
        (None, 3, 0),
        (None, 4, 1),
    ]
    assert json.dumps(ranking.to_dict())


class Logits(FakeScorer):
    def __init__(self, *logits: float, unscored: tuple[int, ...] = ()) -> None:
        super().__init__(degraded="tired" if unscored else None)
        self.logits, self.unscored = logits, unscored

    def score(self, requests, on_scored=None):
        (answer,) = super().score(requests)
        return [replace(answer, logits=self.logits, unscored=self.unscored)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logit_that_is_no_number_is_an_error_even_where_its_sigmoid_is_one(bad: float) -> None:
    with pytest.raises(ScoringError, match=r"documents\[1\].*logit"):
        Reranker(Logits(0.5, bad)).rank("q", ["a", "b"])


def test_a_document_that_was_not_scored_may_lack_a_logit() -> None:
    ranking = Reranker(Logits(0.5, math.nan, unscored=(1,))).rank("q", ["a", "b"])
    assert ranking.unscored == (1,)


class Miscounting(FakeScorer):
    def score(self, requests, on_scored=None):
        return [ScoreResponse([1.0], Usage(1))]


def test_a_wrong_count_is_an_error() -> None:
    with pytest.raises(ScoringError, match="1 scores for 2 documents"):
        Reranker(Miscounting()).rank("q", ["a", "b"])
    with pytest.raises(ScoringError, match="1 of 2 requests"):
        Reranker(Miscounting()).rank_many([("q", ["a"]), ("q", ["b"])])


def test_a_degraded_answer_says_so() -> None:
    ranking = Reranker(FakeScorer(degraded="the service is down")).rank("q", ["q"])
    assert ranking.degraded == "the service is down"


async def test_scores_without_a_ranking_warn_of_a_degraded_answer(caplog) -> None:
    degraded = Reranker(FakeScorer(degraded="the service is down"))
    assert degraded.score("q", ["q"]) == [1.0]
    assert "the service is down" in caplog.text
    caplog.clear()
    assert await degraded.ascore("q", ["q"]) == [1.0]
    assert "the service is down" in caplog.text
    caplog.clear()
    degraded.rank("q", ["q"])
    NUMBERS.score("q", ["0.5"])
    assert caplog.text == ""


def test_a_ranking_is_a_sequence_of_plain_values() -> None:
    ranking = NUMBERS.rank("q", ["0.1", "0.9", "0.5"])
    assert isinstance(ranking, Ranking)
    assert len(ranking) == 3
    assert ranking[0].text == "0.9"
    assert [hit.text for hit in ranking[1:]] == ["0.5", "0.1"]
    assert pickle.loads(pickle.dumps(ranking)) == ranking
    assert ranking.to_dict()["hits"][0]["score"] == 0.9
    with pytest.raises(AttributeError):
        ranking.model = "other"  # type: ignore[misc]


async def test_close_is_passed_on() -> None:
    scorer = FakeScorer()
    with Reranker(scorer):
        pass
    assert scorer.closed
    scorer = FakeScorer()
    async with Reranker(scorer) as reranker:
        await reranker.awarm_up()
    assert scorer.closed
    assert scorer.warm_ups == 1


def test_progress_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    NUMBERS.rank("q", ["0.1", "0.2"])
    assert capsys.readouterr() == ("", "")
    NUMBERS.rank("q", ["0.1", "0.2"], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2.00/2.00" in err
