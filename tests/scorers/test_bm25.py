"""BM25 as a scorer: the statistics of a collection, the documents of a call."""

from __future__ import annotations

import asyncio
import math
import pickle
from collections import Counter

import pytest
from judged import DOCUMENTS, QUERIES

from jina_rerank import Bm25Scorer, ConfigurationError, Progress, Reranker, Scorer, ScoreRequest
from jina_rerank.scorers.base import CacheableScorer

TEXTS = list(DOCUMENTS.values())
SCORER = Bm25Scorer(TEXTS)


def score(query: str, documents: list[str], scorer: Bm25Scorer = SCORER) -> list[float]:
    (response,) = scorer.score([ScoreRequest(query, documents)])
    return list(response.scores)


def lucene(query: list[str], document: list[str], collection: list[list[str]]) -> float:
    """The formula by hand, with Anserini's constants."""
    counts, size = Counter(document), len(collection)
    mean = sum(map(len, collection)) / size
    total = 0.0
    for word in query:
        having = sum(word in other for other in collection)
        rarity = math.log(1 + (size - having + 0.5) / (having + 0.5))
        norm = 0.9 * (1 - 0.4 + 0.4 * len(document) / mean)
        total += rarity * counts[word] / (counts[word] + norm)
    return total


def test_a_document_of_the_collection_and_any_other_are_scored_by_lucenes_formula() -> None:
    words = [["kiwi", "kiwi", "plum"], ["plum", "fig"], ["fig", "fig", "melon", "melon"]]
    other = ["plum", "kiwi", "quince", "fig", "fig"]
    scorer = Bm25Scorer([" ".join(text) for text in words])
    asked = [*words, other]
    for query in (["kiwi"], ["fig", "plum"], ["melon", "melon"], ["quince"], ["pear"]):
        scores = score(" ".join(query), [" ".join(text) for text in asked], scorer)
        inside = [word for word in query if any(word in text for text in words)]
        expected = [lucene(inside, text, words) for text in asked]
        assert scores == pytest.approx(expected, abs=1e-5), query


def test_a_document_scores_the_same_whether_the_collection_has_it_or_not() -> None:
    for query in QUERIES.values():
        known = score(query, TEXTS)
        # Points are no words, so these are the same documents to BM25 and other texts to a table.
        assert score(query, [f"{text} ." for text in TEXTS]) == pytest.approx(known, abs=1e-5)
        assert max(known) > 0


def test_a_document_that_is_there_twice_counts_twice() -> None:
    once, twice = Bm25Scorer(["fig jam", "plum jam"]), Bm25Scorer(["fig jam"] * 2 + ["plum jam"])
    assert score("fig", ["fig jam"], twice)[0] < score("fig", ["fig jam"], once)[0]


def test_nothing_to_count_is_no_error() -> None:
    assert score("the of", TEXTS) == [0.0] * len(TEXTS)
    assert score("fig", ["fig", ""], Bm25Scorer([])) == [0.0, 0.0]
    assert score("fig", ["the"], Bm25Scorer(["the", "of"])) == [0.0]


def test_it_is_a_scorer_like_others() -> None:
    assert isinstance(SCORER, Scorer)
    assert isinstance(SCORER, CacheableScorer)
    assert not SCORER.listwise
    query = next(iter(QUERIES.values()))
    requests = [ScoreRequest(query, TEXTS), ScoreRequest("bread", TEXTS[:2])]
    told: list[Progress] = []
    expected = [list(one.scores) for one in SCORER.score(requests, told.append)]
    found = asyncio.run(SCORER.ascore(requests))
    assert [list(one.scores) for one in found] == expected
    assert [one.usage.documents for one in found] == [len(TEXTS), 2]
    assert told[-1].remaining_tokens == 0 < told[0].remaining_tokens
    with Reranker(pickle.loads(pickle.dumps(SCORER))) as reranker:
        ranking = reranker.rank(query, TEXTS)
        assert ranking[0].score == pytest.approx(max(expected[0]))
        assert ranking.model == "bm25"
    SCORER.close()
    assert score(query, TEXTS) == expected[0], "the index is built again"


def test_its_fingerprint_tells_the_collection() -> None:
    assert Bm25Scorer(TEXTS).fingerprint == SCORER.fingerprint
    assert Bm25Scorer(TEXTS[1:]).fingerprint != SCORER.fingerprint
    assert Bm25Scorer(["ab", "c"]).fingerprint != Bm25Scorer(["a", "bc"]).fingerprint


def test_one_text_is_no_collection() -> None:
    with pytest.raises(ConfigurationError, match="collection must be texts, not one text"):
        Bm25Scorer("fig jam")
