"""Retrieval with LlamaIndex, a vector store and `JinaRerank`, against plain arithmetic."""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_index.vector_stores.qdrant")

from llama_index.core.base.embeddings.base import BaseEmbedding

from jina_rerank import ConfigurationError, InputError, ModelLoadError, Reranker
from jina_rerank.evaluation import Collection, load_collection
from jina_rerank.evaluation.rag import (
    aevaluate_rag,
    evaluate_rag,
    load_embedding,
    read_rag_dataset,
)
from jina_rerank.testing import FakeScorer

COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"


def hashed(text: str, dimensions: int) -> np.ndarray:
    """Counts of words; words whose checksums collide are counted together."""
    vector = np.full(dimensions, 1e-3)
    for word in text.lower().split():
        vector[zlib.crc32(word.encode()) % dimensions] += 1
    return vector / np.linalg.norm(vector)


class HashedEmbedding(BaseEmbedding):
    dimensions: int = 64

    def _get_query_embedding(self, query: str) -> list[float]:
        return hashed(query, self.dimensions).tolist()

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return hashed(text, self.dimensions).tolist()


EMBEDDINGS = {"small": HashedEmbedding(dimensions=64), "large": HashedEmbedding(dimensions=1024)}

ALPHABET = Collection(
    name="alphabet",
    queries={"qa": "a", "qb": "b", "none": "c"},
    documents={"da": "a", "db": "b b a", "dc": "c c b", "dd": "d"},
    qrels={"qa": {"da": 1}, "qb": {"db": 2, "dc": 0}, "none": {"dc": 0}},
)


def by_hand(
    collection: Collection, dimensions: int, top_n: int, candidates: int, reranker: Reranker | None
) -> tuple[float, float]:
    """Hit rate and MRR from cosines, sorted."""
    names = list(collection.documents)
    matrix = np.stack([hashed(collection.documents[name], dimensions) for name in names])
    hits, ranks = [], []
    for query, text in collection.queries.items():
        order = np.argsort(-(matrix @ hashed(text, dimensions)), kind="stable")
        found = [names[place] for place in order[:candidates]]
        if reranker is not None:
            texts = [collection.documents[name] for name in found]
            found = [found[hit.index] for hit in reranker.rank(text, texts)]
        relevant = [collection.qrels[query].get(name, 0) > 0 for name in found[:top_n]]
        hits.append(float(any(relevant)))
        ranks.append(1 / (1 + relevant.index(True)) if any(relevant) else 0.0)
    return float(np.mean(hits)), float(np.mean(ranks))


@pytest.fixture(scope="module")
def coffee() -> Collection:
    return load_collection(str(COFFEE)).take(12)


def test_figures_are_those_of_cosines_and_of_the_reranker(coffee: Collection) -> None:
    with Reranker() as mini:
        evaluation = evaluate_rag(coffee, EMBEDDINGS, {"mini": mini}, candidates=8, top_n=3)
        assert [(r.embedding, r.reranker) for r in evaluation.results] == [
            ("small", None),
            ("large", None),
            ("small", "mini"),
            ("large", "mini"),
        ]
        for result in evaluation.results:
            expected = by_hand(
                coffee,
                dimensions=EMBEDDINGS[result.embedding].dimensions,
                top_n=3,
                candidates=3 if result.reranker is None else 8,
                reranker=None if result.reranker is None else mini,
            )
            assert tuple(result.means.values()) == pytest.approx(expected)
    means = [result.means["hit_rate"] for result in evaluation.results]
    assert evaluation.average(None)["hit_rate"] == pytest.approx((means[0] + means[1]) / 2)
    assert evaluation.average("mini")["hit_rate"] == pytest.approx((means[2] + means[3]) / 2)
    assert len(set(means)) > 1


def test_the_reranker_sees_the_candidates_and_keeps_top_n() -> None:
    # It prefers long documents, whatever the question.
    scorer = FakeScorer(lambda _, document: float(len(document)))
    evaluation = evaluate_rag(
        ALPHABET,
        {"large": EMBEDDINGS["large"]},
        {"long": Reranker(scorer)},
        candidates=2,
        top_n=1,
    )
    assert {len(request.documents) for request in scorer.requests} == {2}
    alone, reranked = evaluation.results
    # For "a" the cosine prefers "a" to "b b a"; the reranker turns that round.
    assert alone.per_query["mrr"] == {"qa": 1.0, "qb": 1.0, "none": 0.0}
    assert reranked.per_query["hit_rate"]["qa"] == 0.0


def test_a_query_without_relevant_passages_counts_nothing() -> None:
    result = evaluate_rag(ALPHABET, EMBEDDINGS, {}).results[0]
    assert result.means["hit_rate"] == pytest.approx(2 / 3)


async def test_in_a_running_event_loop() -> None:
    evaluation = await aevaluate_rag(ALPHABET, EMBEDDINGS, {}, candidates=4, top_n=4)
    assert evaluation.average(None)["hit_rate"] == pytest.approx(2 / 3)


def test_unknown_reranker() -> None:
    with pytest.raises(InputError, match="'mini' was not evaluated"):
        evaluate_rag(ALPHABET, EMBEDDINGS, {}).average("mini")


@pytest.mark.parametrize("top_n", [0, 11])
def test_top_n_out_of_range(top_n: int) -> None:
    with pytest.raises(InputError, match="between 1 and candidates=10"):
        evaluate_rag(ALPHABET, EMBEDDINGS, {}, top_n=top_n)


def test_no_embedding_model() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        evaluate_rag(ALPHABET, [], {})


def test_a_missing_library_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(ConfigurationError, match=r"pip install \"jina-rerank\[eval-rag\]\""):
        evaluate_rag(ALPHABET, EMBEDDINGS, {})


def test_an_embedding_model_from_a_folder(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "query:": 1, "a": 2, "b": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    weights = np.eye(len(words), dtype=np.float32)
    model = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_weights=weights)],
        device="cpu",
        prompts={"query": "query: ", "document": ""},
    )
    model.save(str(tmp_path))
    embedding = load_embedding(str(tmp_path))
    half = 2**-0.5
    assert embedding.get_query_embedding("a") == pytest.approx([0, half, half, 0], abs=1e-6)
    assert embedding.get_text_embedding("b b") == pytest.approx([0, 0, 0, 1], abs=1e-6)
    assert embedding.model_name == str(tmp_path)
    figures = evaluate_rag(ALPHABET, [str(tmp_path)], {}, top_n=1).results[0]
    assert figures.embedding == str(tmp_path)
    assert figures.per_query["hit_rate"]["qa"] == 1.0


def test_a_folder_without_an_embedding_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_embedding(str(tmp_path / "absent"))


def write_dataset(folder: Path, examples: Any, **sources: str) -> Path:
    (folder / "source_files").mkdir(parents=True)
    (folder / "rag_dataset.json").write_text(json.dumps({"examples": examples}))
    for name, text in sources.items():
        (folder / "source_files" / name.replace("_", ".")).write_text(text)
    return folder


def test_contexts_are_passages_each_once(tmp_path: Path) -> None:
    folder = write_dataset(
        tmp_path / "tea",
        [
            {"query": "Which?", "reference_contexts": ["Green tea."], "reference_answer": "Green."},
            {"query": "What?", "reference_contexts": ["Black tea.", "Green tea."]},
        ],
        book_pdf="%PDF-1.7 Green tea.",
    )
    dataset = read_rag_dataset(folder)
    assert dataset.name == "tea"
    assert dataset.queries == {"q1": "Which?", "q2": "What?"}
    assert dataset.documents == {"p1": "Green tea.", "p2": "Black tea."}
    assert dataset.qrels == {"q1": {"p1": 1}, "q2": {"p2": 1, "p1": 1}}


def test_a_byte_order_mark_and_a_folder_that_is_called_like_a_text(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "a", [{"query": "Which?", "reference_contexts": ["Tea."]}])
    (folder / "source_files" / "book.md").mkdir()
    path = folder / "rag_dataset.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_rag_dataset(folder).documents == {"p1": "Tea."}


def test_text_between_contexts_is_searched_too(tmp_path: Path) -> None:
    examples = [
        {"query": "Which?", "reference_contexts": ["Green tea\nis green."]},
        {"query": "What?", "reference_contexts": ["is green. So it is."]},  # they overlap
    ]
    book = "Before it. Green  tea is\ngreen. So it is. After it."
    dataset = read_rag_dataset(write_dataset(tmp_path / "a", examples, book_txt=book))
    assert {k: v for k, v in dataset.documents.items() if k.startswith("s")} == {
        "s1": "Before it.",
        "s2": "After it.",
    }


def test_no_text_is_added_where_contexts_are_paraphrases(tmp_path: Path) -> None:
    examples = [
        {"query": "Which?", "reference_contexts": ["Green tea."]},
        {"query": "What?", "reference_contexts": ["Tea that is black."]},
    ]
    book = "Green tea. Black tea. White tea."
    dataset = read_rag_dataset(write_dataset(tmp_path / "a", examples, book_txt=book))
    assert list(dataset.documents) == ["p1", "p2"]


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "has no examples"),
        ({}, "has no examples"),
        (["Which?"], r"examples\[0\]: must be a JSON object"),
        ([{"query": " ", "reference_contexts": ["a"]}], r"examples\[0\]: must have a question"),
        (
            [
                {"query": "a", "reference_contexts": ["a"]},
                {"query": "b", "reference_contexts": []},
            ],
            r"examples\[1\]: must have at least one text",
        ),
        ([{"query": "a", "reference_contexts": [7]}], "at least one text"),
    ],
)
def test_bad_datasets(tmp_path: Path, examples: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_rag_dataset(write_dataset(tmp_path / "a", examples))


def test_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_rag_dataset(tmp_path)
    (tmp_path / "rag_dataset.json").write_text("[]")
    with pytest.raises(InputError, match="is not a LlamaIndex rag_dataset"):
        read_rag_dataset(tmp_path)
