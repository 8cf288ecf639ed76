"""`CachedScorer`: answers as without it, and each pair computed once."""

import asyncio
import math
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from caching import (
    QUERY,
    Detailed,
    Scripted,
    ask,
    by_length,
    calls_strategy,
    columns_strategy,
    pairs,
    rows_in,
)
from hypothesis import given
from hypothesis import strategies as st

from jina_rerank import (
    CachedScorer,
    InputError,
    LocalScorer,
    Progress,
    Reranker,
    ScoreRequest,
    ScoreResponse,
    ScoringError,
    Usage,
)
from jina_rerank.testing import FakeScorer


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_answers_are_those_of_the_scorer_and_no_pair_is_computed_twice(way, on_disk) -> None:
    @given(calls_strategy, columns_strategy)
    def check(calls, columns) -> None:
        with tempfile.TemporaryDirectory() as folder:
            fake, plain = Detailed(sorted(columns)), Detailed(sorted(columns))
            cached = CachedScorer(fake, path=f"{folder}/scores" if on_disk else None)
            for requests in calls:
                before = len(fake.requests)
                if way == "sync":
                    answers = cached.score(requests)
                else:
                    answers = asyncio.run(cached.ascore(requests))
                sent = pairs(fake.requests[before:])
                expected = plain.score(requests)
                assert [contents(answer) for answer in answers] == [
                    contents(response) for response in expected
                ]
                counted = [answer.usage for answer in answers]
                assert sum(usage.tokens or 0 for usage in counted) == sum(len(d) for _, d in sent)
                hits = sum(usage.cached_documents or 0 for usage in counted)
                assert hits + len(sent) == len(pairs(requests))
            assert max(Counter(pairs(fake.requests)).values(), default=1) == 1
            cached.close()

    check()


def contents(response: ScoreResponse) -> dict[str, object]:
    """Fields that must be the same with a cache as without, if there are documents."""
    columns = (response.scores, response.logits, response.tokens, response.truncated_tokens)
    if not response.scores:
        return {}
    return {
        "columns": [None if column is None else list(column) for column in columns],
        "usage": replace(response.usage, tokens=None, cached_documents=None)
        if response.truncated_tokens is not None
        else response.usage.truncated_query_tokens,
    }


def test_a_call_sends_what_it_lacks_at_once_and_only_once() -> None:
    fake = Detailed()
    calls: list[int] = []
    original = fake.score
    fake.score = lambda requests, on_scored=None: (  # type: ignore[method-assign]
        calls.append(len(requests)) or original(requests, on_scored)
    )
    cached = CachedScorer(fake)
    ask(cached, "a", "bb")
    progress: list[Progress] = []
    first, second, third = cached.score(
        [
            ScoreRequest(QUERY, ["bb", "ccc", "a", "ccc"]),
            ScoreRequest(QUERY, ["a", "bb"]),
            ScoreRequest("another", ["a", "ccc", "a"], "pairs[2]."),
        ],
        progress.append,
    )
    assert calls == [1, 2]
    assert fake.requests[1:] == [
        ScoreRequest(QUERY, ["ccc"]),
        ScoreRequest("another", ["a", "ccc"], "pairs[2]."),
    ]
    assert [len(first.scores), len(second.scores), len(third.scores)] == [4, 2, 3]
    assert first.usage == Usage(4, 3, 2, len(QUERY) - 1, cached_documents=3)
    assert second.usage == Usage(2, 0, 0, len(QUERY) - 1, cached_documents=2)
    assert third.usage == Usage(3, 4, 1, len("another") - 1, cached_documents=1)
    assert progress == [Progress(1, 2), Progress(3, 0)]


def test_tokens_are_unknown_where_the_scorer_does_not_count_them_and_0_where_it_was_not_asked() -> (
    None
):
    cached = CachedScorer(by_length())
    assert ask(cached, "a").usage == Usage(1, None, None, None, cached_documents=0)
    assert ask(cached, "a", "b").usage == Usage(2, None, None, None, cached_documents=1)
    assert ask(cached, "a", "b").usage == Usage(2, 0, None, None, cached_documents=2)


def test_texts_that_run_together_the_same_are_different_pairs() -> None:
    seen = CachedScorer(by_length())
    ask(seen, "c", query="ab")
    assert ask(seen, "bc", query="a").usage.cached_documents == 0
    assert ask(seen, "", query="abc").usage.cached_documents == 0
    assert ask(seen, "ab", query="c").usage.cached_documents == 0
    assert ask(seen, "\ud800", query="ab").usage.cached_documents == 0  # as a scorer may be called
    assert ask(seen, "c", query="ab").usage.cached_documents == 1


def test_fingerprint_and_model_are_part_of_the_key(tmp_path: Path) -> None:
    class Named(FakeScorer):
        model = "fak"

    path = tmp_path / "scores"
    ask(CachedScorer(by_length(), path=path), "a")
    for other in (by_length(fingerprint="another"), Named(fingerprint="efake")):
        assert ask(CachedScorer(other, path=path), "a").usage.cached_documents == 0
    assert ask(CachedScorer(by_length(), path=path), "a").usage.cached_documents == 1


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    values = [0.1, 1 / 3, 5e-324, -1.7976931348623157e308, 1e16 + 2, 0.9999999999999999]
    fake = FakeScorer(lambda query, document: values[int(document)])
    documents = [str(i) for i in range(len(values))]
    for path in (None, tmp_path / "scores"):
        cached = CachedScorer(fake, path=path)
        ask(cached, *documents)
        again = ask(cached, *documents)
        assert again.usage.cached_documents == len(values)
        assert list(again.scores) == values


# What is kept and what is not


def test_a_degraded_answer_is_passed_on_and_not_kept() -> None:
    fake = FakeScorer(degraded="tired")
    cached = CachedScorer(fake)
    for _ in range(2):
        answer = ask(cached, "a", "b")
        assert answer.degraded == "tired"
        assert answer.usage.cached_documents == 0
    assert len(fake.requests) == 2


@pytest.mark.parametrize(
    "other", [{"degraded": "tired"}, {"model": "another"}], ids=["degraded", "another model"]
)
def test_scores_that_cannot_be_compared_never_meet(other: dict[str, str]) -> None:
    fake = Scripted(lambda request, response: response)
    cached = CachedScorer(fake)
    ask(cached, "a", "bb")
    fake.change = lambda request, response: replace(
        response, scores=[-score for score in response.scores], **other
    )
    mixed, known = cached.score(
        [ScoreRequest(QUERY, ["a", "ccc", "bb"]), ScoreRequest(QUERY, ["bb", "a"])]
    )
    assert list(mixed.scores) == [-1, -3, -2]
    assert (mixed.degraded, mixed.model) == (other.get("degraded"), other.get("model"))
    assert mixed.usage.cached_documents == 0
    assert list(known.scores) == [2, 1]
    assert known.degraded is None
    fake.change = lambda request, response: response
    assert ask(cached, "ccc").usage.cached_documents == 0


def test_a_partial_answer_keeps_its_cached_scores_and_is_not_kept() -> None:
    fake = Scripted(lambda request, response: response)
    cached = CachedScorer(fake)
    ask(cached, "a", "bb")
    fake.change = lambda request, response: replace(
        response, scores=[3.0, 0.0], degraded="1 of 2 was not scored", unscored=(1,)
    )
    answer = ask(cached, "dddd", "a", "eeeee", "dddd", "bb")
    # The unscored take the fifth's place, whatever their number among those that were sent.
    assert fake.requests[-1].documents == ["dddd", "eeeee"]
    assert list(answer.scores)[:2] == [3.0, 1.0]
    assert answer.unscored == (2,)
    assert answer.degraded == "1 of 2 was not scored"
    assert answer.scores[2] < min(answer.scores[i] for i in (0, 1, 3, 4))
    assert answer.usage == Usage(4, None, cached_documents=3)
    fake.change = lambda request, response: response
    assert ask(cached, "dddd", "eeeee", "a").usage.cached_documents == 1


def test_a_score_that_is_no_number_is_not_kept_and_named_by_its_own_place() -> None:
    fake = FakeScorer(lambda query, document: math.nan if document == "bad" else 1.0)
    reranker = Reranker(CachedScorer(fake))
    reranker.rank(QUERY, ["good"])
    for _ in range(2):
        with pytest.raises(ScoringError, match=r"documents\[1\] as nan"):
            reranker.rank(QUERY, ["good", "bad"])
    assert pairs(fake.requests) == [(QUERY, "good"), (QUERY, "bad"), (QUERY, "bad")]


def test_wrong_numbers_of_answers_are_errors_as_without() -> None:
    short = Scripted(lambda request, response: replace(response, scores=response.scores[:-1]))
    with pytest.raises(ScoringError, match="1 scores for 2 documents"):
        Reranker(CachedScorer(short)).rank(QUERY, ["a", "b"])
    none = by_length()
    none.score = lambda requests, on_scored=None: []  # type: ignore[method-assign]
    with pytest.raises(ScoringError, match="0 of 1 requests"):
        Reranker(CachedScorer(none)).rank(QUERY, ["a", "b"])


def test_an_input_error_names_the_document_by_its_own_place(small_checkpoint: Path) -> None:
    scorer = LocalScorer(small_checkpoint, max_length=32, long_documents="error")
    with Reranker(CachedScorer(scorer)) as reranker:
        reranker.rank(QUERY, ["a bear", "a panda"])
        pair = (QUERY, ["a bear", "a panda", "paris " * 99])
        with pytest.raises(InputError) as caught:
            reranker.rank_many([(QUERY, ["paris"]), pair])
        assert caught.value.argument == "pairs[1].documents[2]"
        with pytest.raises(InputError) as caught:
            asyncio.run(reranker.arank_many([pair]))
        assert caught.value.argument == "pairs[0].documents[2]"


# Listwise


def test_a_listwise_score_is_kept_for_the_whole_list_only() -> None:
    fake = by_length(listwise=True)
    cached = CachedScorer(fake)
    asked = [["a", "bb"], ["bb", "a"], ["a"], ["a", "bb", "bb"], ["abb"]]
    for documents in asked:
        assert ask(cached, *documents).usage.cached_documents == 0
    for documents in asked:
        answer = ask(cached, *documents)
        assert answer.usage.cached_documents == len(documents)
        assert list(answer.scores) == [len(document) for document in documents]
    assert [request.documents for request in fake.requests] == asked


def test_a_list_of_which_a_part_was_dropped_is_sent_whole() -> None:
    fake = by_length(listwise=True)
    cached = CachedScorer(fake, max_entries=4)
    ask(cached, "a", "bb", "ccc")
    ask(cached, "x", "yy")
    answer = ask(cached, "a", "bb", "ccc")
    assert fake.requests[-1].documents == ["a", "bb", "ccc"]
    assert list(answer.scores) == [1, 2, 3]
    assert answer.usage.cached_documents == 0


def test_a_document_that_is_in_a_list_twice_may_have_two_scores() -> None:
    fake = Scripted(lambda request, response: replace(response, scores=[2.0, 1.0]))
    fake.listwise = True
    cached = CachedScorer(fake)
    assert list(ask(cached, "a", "a").scores) == [2, 1]
    known = ask(cached, "a", "a")
    assert known.usage.cached_documents == 2
    assert list(known.scores) == [2, 1]


def test_two_equal_lists_in_one_call_are_computed_once() -> None:
    fake = by_length(listwise=True)
    first, second = CachedScorer(fake).score([ScoreRequest(QUERY, ["a", "a"])] * 2)
    assert len(fake.requests) == 1
    assert (first.scores, second.scores) == ([1, 1], [1, 1])
    assert (first.usage.cached_documents, second.usage.cached_documents) == (0, 2)


# The bound


@given(
    st.integers(1, 12),
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), max_size=12),
)
def test_the_bound_holds_and_what_was_used_lately_is_there(bound: int, calls) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores"
        fake = by_length()
        cached = CachedScorer(fake, path=path, max_entries=bound)
        so_far: list[set[str]] = []
        for numbers in calls:
            documents = [str(number) for number in numbers]
            before = len(fake.requests)
            ask(cached, *documents)
            assert rows_in(path) <= bound
            for _, document in pairs(fake.requests[before:]):
                if any(document in used for used in so_far):
                    last = max(i for i, used in enumerate(so_far) if document in used)
                    others = set().union(*so_far[last:]) - {document}
                    assert len(others) > bound // 2
            so_far.append(set(documents))
        cached.close()


def test_more_than_the_bound_in_one_call(tmp_path: Path) -> None:
    cached = CachedScorer(by_length(), path=tmp_path / "scores", max_entries=700)
    documents = [f"number {i}" for i in range(3000)]
    assert list(ask(cached, *documents).scores) == [len(document) for document in documents]
    assert rows_in(tmp_path / "scores") == 700
    assert ask(cached, *documents[-700:]).usage.cached_documents == 700


def test_a_file_that_holds_more_is_cut_to_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    with Reranker(CachedScorer(by_length(), path=path)) as reranker:
        reranker.rank(QUERY, [f"number {i}" for i in range(50)])
    smaller = CachedScorer(by_length(), path=path, max_entries=10)
    smaller.warm_up()
    assert rows_in(path) == 10
    assert ask(smaller, "number 49", "number 39").usage.cached_documents == 1


def test_a_pair_in_constant_use_outlives_any_number_of_others() -> None:
    fake = by_length()
    cached = CachedScorer(fake, max_entries=100)
    for i in range(1000):
        ask(cached, "favourite", f"number {i}")
    assert Counter(pairs(fake.requests))[QUERY, "favourite"] == 1
