"""Rows that cannot be scored."""

import pyarrow as pa
import pytest

from jina_rerank import Reranker
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
