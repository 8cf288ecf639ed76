"""The RAG suite over several datasets."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("llama_index.vector_stores.qdrant")

from llama_index.core.embeddings import MockEmbedding

from jina_rerank import InputError, Reranker
from jina_rerank.evaluation.suites import run_rag_suite, suite_markdown
from jina_rerank.testing import FakeScorer

COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"


def write_dataset(folder: Path, answers: int) -> None:
    """As many questions as answers, each with its own passage of the same words."""
    folder.mkdir(parents=True)
    examples = [
        {"query": f"word{n}", "reference_contexts": [f"word{n} is a word"]} for n in range(answers)
    ]
    (folder / "rag_dataset.json").write_text(json.dumps({"examples": examples}))


def test_datasets_count_the_same(tmp_path: Path) -> None:
    write_dataset(tmp_path / "four", 4)
    write_dataset(tmp_path / "two", 2)
    (tmp_path / "notes").mkdir()
    # All vectors are the same, so the store finds passages in some order that is not the
    # question's; the reranker knows by the words.
    result = run_rag_suite(
        tmp_path,
        {"blind": MockEmbedding(embed_dim=3)},
        {"words": Reranker(FakeScorer())},
        candidates=4,
        top_n=1,
    )
    assert list(result.figures) == ["four", "two"]
    assert result.systems == ["first-stage", "words"]
    assert result.mean("hit_rate", "words") == 1.0
    assert result.mean("mrr", "words") == 1.0
    # One passage comes first for all questions of a dataset, and answers one of them.
    assert result.mean("hit_rate", "first-stage") == pytest.approx((1 / 4 + 1 / 2) / 2)
    markdown = suite_markdown(result)
    assert "| first-stage | 37.50 | 79.08 | 37.50 | 53.07 |" in markdown
    assert "embedding models blind; 4 passages found, 1 kept" in markdown


def test_one_dataset_and_a_collection_in_beir_layout(tmp_path: Path) -> None:
    write_dataset(tmp_path / "one", 3)
    embedding = {"blind": MockEmbedding(embed_dim=3)}
    assert list(run_rag_suite(tmp_path / "one", embedding, {}).figures) == ["one"]
    shutil.copytree(COFFEE, tmp_path / "coffee")
    assert list(run_rag_suite(tmp_path / "coffee", embedding, {}, queries=2).figures) == ["coffee"]


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds neither rag_dataset"):
        run_rag_suite(tmp_path, {"blind": MockEmbedding(embed_dim=3)}, {})
