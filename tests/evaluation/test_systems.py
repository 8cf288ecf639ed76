"""Bi-encoders, and how systems are spelled."""

import re
from pathlib import Path
from typing import Any

import pytest
from faults import FaultServer
from judged import COLLECTION, DOCUMENTS, FOUND, QUERIES
from word_vectors import cosine, write_word_vectors

from jina_rerank import ConfigurationError
from jina_rerank.evaluation import (
    FirstStageSystem,
    MixedSystem,
    RerankerSystem,
    System,
    evaluate,
)
from jina_rerank.evaluation.spelling import Speller

VOCABULARY = sorted({*re.findall(r"\w+", " ".join(DOCUMENTS.values()).lower())})
SPELL = Speller(DOCUMENTS, max_length=128, long_documents="chunk")


@pytest.fixture(scope="module")
def word_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_vectors(tmp_path_factory.mktemp("words"), VOCABULARY)


def test_a_bi_encoder_scores_by_cosine(word_vectors: Path) -> None:
    system = Speller(DOCUMENTS).build(f"bi-encoder:{word_vectors}")
    evaluation = evaluate(COLLECTION, FOUND, [system], measures=["nDCG@10"])
    for query, found in FOUND.items():
        expected = {d: cosine(VOCABULARY, QUERIES[query], DOCUMENTS[d]) for d in found}
        assert evaluation.result(system.name).run[query] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("spelled", "kind", "told"),
    [
        ("mini", RerankerSystem, "LocalScorer(None"),
        ("jina-rerank-mini", RerankerSystem, "LocalScorer(None"),
        ("jinaai/jina-reranker-v1-tiny-en", RerankerSystem, "LocalScorer('jinaai/"),
        ("./folder", RerankerSystem, "LocalScorer('./folder', "),
        ("cross-encoder:org/name", RerankerSystem, "CrossEncoderScorer('org/name'"),
        ("remote:m@http://127.0.0.1:9/v1", RerankerSystem, "RemoteScorer('m', base_url='http://1"),
        ("bm25", RerankerSystem, "Bm25Scorer(6 documents)"),
        ("first-stage", FirstStageSystem, ""),
        ("bi-encoder:org/name", RerankerSystem, "BiEncoderScorer('org/name'"),
        ("sparse-encoder:org/name", RerankerSystem, "SparseEncoderScorer('org/name'"),
    ],
)
def test_one_system(spelled: str, kind: type, told: str) -> None:
    system: Any = SPELL.build(spelled)
    assert type(system) is kind
    assert isinstance(system, System)
    assert system.name == spelled
    if kind is RerankerSystem:
        assert told in repr(system.reranker)
    if "LocalScorer" in told:
        assert "max_length=128, long_documents='chunk'" in repr(system.reranker)


@pytest.mark.parametrize(
    ("spelled", "first", "second", "weight"),
    [
        ("mix:first-stage+mini", "first-stage", "mini", 0.5),
        ("mix:0.3*first-stage+0.7*mini", "first-stage", "mini", 0.3),
        ("mix:1*bm25+3*cross-encoder:a/b", "bm25", "cross-encoder:a/b", 0.25),
    ],
)
def test_mixes(spelled: str, first: str, second: str, weight: float) -> None:
    mix = SPELL.build(spelled)
    assert isinstance(mix, MixedSystem)
    assert (mix.name, mix.first.name, mix.second.name) == (spelled, first, second)
    assert mix.weight == pytest.approx(weight)


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("cross-encoder:", "lacks a name behind the colon"),
        ("mix:mini", "must be mix:A+B"),
        ("mix:+mini", "must be mix:A+B"),
        ("mix:0.3*bm25+mini", "with both weights"),
        ("mix:1.2.3*bm25+1*mini", "weight that is no number"),
        ("mix:0*bm25+0*mini", "weight that is no number"),
        ("mix:0*bm25+1*mini", "weight must be between 0 and 1"),
        ("remote:m@http://", "base_url"),
    ],
)
def test_spellings_that_mean_nothing(spelled: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        SPELL.build(spelled)


def test_a_service_is_evaluated_like_a_model() -> None:
    with FaultServer() as server:
        system = SPELL.build(f"remote:m@{server.url}")
        evaluation = evaluate(COLLECTION, FOUND, [system], measures=["nDCG@10"])
    result = evaluation.result(system.name)
    assert result.cost is not None
    assert result.cost.pairs == 8
    assert {query: set(found) for query, found in result.run.items()} == {
        query: set(found) for query, found in FOUND.items()
    }
