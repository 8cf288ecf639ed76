"""Rows that cannot be scored."""

from pathlib import Path

import pyarrow as pa
import pytest

from jina_rerank import LocalScorer, Reranker
from jina_rerank.testing import FakeScorer

pytest.importorskip("ray", reason="the extra ray is not installed")

from jina_rerank.ray.rows import Columns, score_rows

COLUMNS = Columns("query", "document", "score")


def test_a_row_that_cannot_be_scored_says_why_and_harms_no_other() -> None:
    rows = [
        ("a b", "a b", None),
        (" ", "a", "query: is blank; pass the question that the documents answer"),
        (None, "a", "query: is null"),
        ("a", None, "document: is null"),
        ("a", "\n", "document: is blank"),
        ("a b", "a", None),
    ]
    queries, documents, errors = zip(*rows, strict=True)
    table = pa.table({"query": queries, "document": documents})
    scored = score_rows(Reranker(FakeScorer()), table, COLUMNS)
    assert scored["score_error"].to_pylist() == list(errors)
    expected = Reranker(FakeScorer()).score("a b", ["a b", "a"])
    assert scored["score"].to_pylist() == [expected[0], None, None, None, None, expected[1]]


def test_lists_are_scored_in_their_order_and_queries_may_repeat() -> None:
    table = pa.table(
        {"query": ["a b", "c", "a b"], "document": [["a", "a b"], ["c", None], ["b a", "", "x"]]}
    )
    scored = score_rows(Reranker(FakeScorer()), table, COLUMNS)
    reranker = Reranker(FakeScorer())
    assert scored["score"].to_pylist() == [
        reranker.score("a b", ["a", "a b"]),
        None,
        reranker.score("a b", ["b a", "", "x"]),
    ]
    assert scored["score_error"].to_pylist()[1].startswith("document[1]: must be a string")


def test_a_degraded_answer_is_no_score() -> None:
    scorer = FakeScorer(degraded="it is down")
    table = pa.table({"query": ["a"], "document": ["a"]})
    scored = score_rows(Reranker(scorer), table, COLUMNS)
    assert scored["score"].to_pylist() == [None]
    assert scored["score_error"].to_pylist() == ["it is down"]


@pytest.mark.parametrize("wrapped", [False, True], ids=["strings", "lists"])
def test_a_row_that_the_model_refuses_as_too_long_harms_no_other(
    small_checkpoint: Path, wrapped: bool
) -> None:
    scorer = LocalScorer(small_checkpoint, long_documents="error", max_length=64)
    long, query = "the giant panda " * 60, "what is panda"
    documents = ["panda", long, "coffee", "bear"]
    queries = [query, query, query, f"{query} {long}"]
    table = pa.table({"query": queries, "document": [[d] if wrapped else d for d in documents]})
    with Reranker(scorer) as reranker:
        scored = score_rows(reranker, table, COLUMNS)
        expected = reranker.score(query, ["panda", "coffee"])
    found = [score[0] if wrapped and score else score for score in scored["score"].to_pylist()]
    assert found == [pytest.approx(expected[0]), None, pytest.approx(expected[1]), None]
    errors = scored["score_error"].to_pylist()
    assert errors[0] is errors[2] is None
    assert errors[1].startswith("document[0]: has " if wrapped else "document: has ")
    assert errors[3].startswith("query: has ")
