"""BM25 beside its formula, and runs and candidates from files."""

import math
import re
from collections import Counter
from pathlib import Path

import pytest
import pytrec_eval
import Stemmer
from bm25s.stopwords import STOPWORDS_EN
from judged import COLLECTION, DOCUMENTS, FOUND, QUERIES

from jina_rerank import InputError
from jina_rerank.evaluation import (
    Collection,
    bm25,
    load_collection,
    measure,
    read_candidates,
    read_first_stage,
    read_run,
    write_run,
)
from jina_rerank.scorers.bm25 import Bm25Index

COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"


def words(text: str) -> list[str]:
    stem = Stemmer.Stemmer("english").stemWord
    found = re.findall(r"\b\w\w+\b", text.lower())
    return [stem(word) for word in found if word not in STOPWORDS_EN]


def lucene(query: str, documents: dict[str, str]) -> dict[str, float]:
    """BM25 written down from Kamphuis and others, Which BM25 Do You Mean? (2020)."""
    bags = {name: Counter(words(text)) for name, text in documents.items()}
    average = sum(bag.total() for bag in bags.values()) / len(bags)
    scores = {}
    for name, bag in bags.items():
        total = 0.0
        for word in words(query):
            having = sum(word in other for other in bags.values())
            rarity = math.log(1 + (len(bags) - having + 0.5) / (having + 0.5))
            saturation = bag[word] + 0.9 * (1 - 0.4 + 0.4 * bag.total() / average)
            total += rarity * bag[word] / saturation
        scores[name] = total
    return scores


def test_bm25_is_lucenes_formula() -> None:
    texts = list(DOCUMENTS.values())
    index = Bm25Index(texts)
    for query in QUERIES.values():
        expected = lucene(query, DOCUMENTS)
        assert index.score_texts(query, texts) == pytest.approx(list(expected.values()), 1e-5)
        found = index.search(query, 3)
        best = sorted((s for s in expected.values() if s > 0), reverse=True)[:3]
        assert list(found.values()) == pytest.approx(best, 1e-5)


def test_bm25_finds_only_what_shares_a_word_and_ties_keep_the_order() -> None:
    documents = {"z": "red apple", "a": "red apple", "m": "green pear", "b": "red apple"}
    queries = {"q": "red", "unknown": "xyzzy the", "stop words": "to be or not to be"}
    collection = Collection("c", queries, documents, {})
    found = bm25(collection)
    assert (found["unknown"], found["stop words"]) == ({}, {})
    assert len(set(found["q"].values())) == 1
    assert list(bm25(collection)["q"]) == ["z", "a", "b"]
    assert list(bm25(collection, depth=2)["q"]) == ["z", "a"]
    with pytest.raises(InputError, match="depth: must be at least 1"):
        bm25(collection, depth=0)


def test_bm25_on_a_real_collection() -> None:
    """Against what another script of the same settings measured."""
    coffee = load_collection(str(COFFEE))
    assert measure(bm25(coffee), coffee.qrels).means["nDCG@10"] == pytest.approx(0.580, abs=0.0015)


def test_a_run_is_read_by_its_scores(tmp_path: Path) -> None:
    path = tmp_path / "a.trec"
    path.write_text("q1 Q0 d1 1 0.5 x\nq1 Q0 d2 2 0.75 x\n\nq2\tQ0\td1\t1\t-3e2\tx\n")
    assert read_run(path) == {"q1": {"d1": 0.5, "d2": 0.75}, "q2": {"d1": -300.0}}


def test_candidates_are_read_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"query_id": "q1", "document_ids": ["b", "a"]}\n{"query_id": 2, "document_ids": []}'
    )
    assert read_candidates(path) == {"q1": {"b": 2.0, "a": 1.0}, "2": {}}
    assert read_first_stage(path) == read_candidates(path)
    assert read_first_stage(path.rename(tmp_path / "a.JSONL")) == {"q1": {"b": 2, "a": 1}, "2": {}}
    run = tmp_path / "my.jsonl.trec"
    run.write_text("q1 Q0 d1 1 0.5 x\n")
    assert read_first_stage(run) == {"q1": {"d1": 0.5}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.trec", "", "a.trec: is empty"),
        ("a.trec", "q1 d1 0.5\n", "a.trec:1: must be query id, Q0, document id"),
        ("a.trec", "q1 Q0 d1 1 high x\n", "a.trec:1: has the score 'high'"),
        ("a.trec", "q1 Q0 d1 1 nan x\n", "a.trec:1: has the score 'nan', which cannot"),
        ("a.trec", "q1 Q0 d1 1 2 x\nq1 Q0 d1 2 1 x\n", "a.trec:2: has the document 'd1'"),
        ("a.jsonl", "", "a.jsonl: is empty"),
        ("a.jsonl", '{"query_id": "q1"}', "a.jsonl:1: must have a list"),
        ("a.jsonl", '{"document_ids": []}', "a.jsonl:1: must have an identifier under 'query_id'"),
        ("a.jsonl", '{"query_id": "q", "document_ids": [null]}', "under 'document_ids'"),
        ("a.jsonl", '{"query_id": "q", "document_ids": ["a", "a"]}', "a.jsonl:1: has the query"),
    ],
)
def test_bad_lines_of_a_first_stage_are_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_first_stage(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_first_stage(tmp_path / "none.trec")


def test_trec_eval_reads_a_written_run_in_our_order(tmp_path: Path) -> None:
    """Ties, and scores that 32 bits cannot tell apart: trec_eval would order those by name."""
    run = {"q": {"a": 0.5, "z": 0.5, "m": 0.5 - 1e-12, "k": -7.25, "y": -7.25}}
    path = tmp_path / "a.trec"
    write_run(run, path, "my system")
    assert [line.split()[2:4] for line in path.read_text().splitlines()] == [
        ["a", "1"],
        ["z", "2"],
        ["m", "3"],
        ["k", "4"],
        ["y", "5"],
    ]
    assert all(line.endswith(" my_system") for line in path.read_text().splitlines())
    with path.open() as lines:
        parsed = pytrec_eval.parse_run(lines)
    for place, document in enumerate("azmky", 1):
        judge = pytrec_eval.RelevanceEvaluator({"q": {document: 1}}, {"recip_rank"})
        assert judge.evaluate(parsed)["q"]["recip_rank"] == pytest.approx(1 / place)
    assert read_run(path)["q"] == pytest.approx(run["q"], abs=1e-6)


def test_a_run_cannot_hold_blanks_in_identifiers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'a b': it has blanks"):
        write_run({"q": {"a b": 1.0}}, tmp_path / "a.trec", "x")


def test_written_and_read_again(tmp_path: Path) -> None:
    write_run(FOUND, tmp_path / "a.trec", "x")
    assert read_run(tmp_path / "a.trec") == FOUND
    assert FOUND.keys() == COLLECTION.queries.keys()
