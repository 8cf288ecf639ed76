"""Jina's own weights, wherever they can be had: the hub, its cache, or a folder.

JINA_RERANK_TEST_MODELS may name a folder that holds them as jina-reranker-v1-turbo-en and so on.
"""

import os
from functools import cache
from pathlib import Path

import pytest

from jina_rerank import LocalScorer, ModelLoadError, Reranker
from jina_rerank.jinabert import PairTokenizer
from jina_rerank.jinabert.files import CheckpointFiles, find_checkpoint

pytestmark = pytest.mark.real_weights

REVISIONS = {
    "jina-reranker-v1-turbo-en": "b8c14f4e723d9e0aab4732a7b7b93741eeeb77c2",
    "jina-reranker-v1-tiny-en": "aca45de6945b5dc6399abcd2a9c55ded5dc9111f",
    "jina-reranker-v1-base-en": "a05700294977fa3ecadc070b1f5b2a76e0bf1eef",
}

# The example of the model cards: three of these are about sensitive skin, one is what is asked.
QUERY = "Organic skincare products for sensitive skin"
DOCUMENTS = [
    "Eco-friendly kitchenware for modern homes",
    "Biodegradable cleaning supplies for eco-conscious consumers",
    "Organic cotton baby clothes for sensitive skin",
    "Natural organic skincare range for sensitive skin",
    "Tech gadgets for smart homes: 2024 edition",
    "Sustainable gardening tools and compost solutions",
    "Sensitive skin-friendly facial cleansers and toners",
    "Organic food wraps and storage solutions",
    "All-natural pet food for dogs with allergies",
    "Yoga mats made from recycled materials",
]


@cache
def files(name: str) -> CheckpointFiles | str:
    """The files, or why they cannot be had; asked once for all tests."""
    folder = os.environ.get("JINA_RERANK_TEST_MODELS")
    source = str(Path(folder) / name) if folder else f"jinaai/{name}"
    try:
        return find_checkpoint(source, revision=None if folder else REVISIONS[name])
    except ModelLoadError as error:
        return str(error)


def real_model(name: str) -> CheckpointFiles:
    found = files(name)
    if isinstance(found, str):
        pytest.skip(f"real weights: {found}")
    return found


@pytest.mark.parametrize(
    ("name", "paris", "berlin"),
    [
        ("jina-reranker-v1-tiny-en", 2.5911, 0.1122),
        ("jina-reranker-v1-turbo-en", 1.8295, -2.8908),
    ],
)
def test_raw_logits_as_fastembed_publishes_them(name: str, paris: float, berlin: float) -> None:
    folder = real_model(name).config.parent
    with Reranker(LocalScorer(folder, dtype="float32")) as reranker:
        ranking = reranker.rank(
            "What is the capital of France?",
            ["Paris is the capital of France.", "Berlin is the capital of Germany."],
        )
    assert [hit.logit for hit in ranking] == pytest.approx([paris, berlin], abs=1e-3)


@pytest.mark.parametrize("name", REVISIONS)
def test_skincare_example_of_the_model_card(name: str) -> None:
    folder = real_model(name).config.parent
    with Reranker(LocalScorer(folder, dtype="float32")) as reranker:
        ranking = reranker.rank(QUERY, DOCUMENTS, top_n=3)
    assert {hit.index for hit in ranking} == {2, 3, 6}
    assert ranking[0].index == 3


@pytest.mark.parametrize("name", ["jina-reranker-v1-turbo-en", "jina-reranker-v1-tiny-en"])
def test_published_token_ids(name: str) -> None:
    tokenizer_file = real_model(name).tokenizer
    assert tokenizer_file is not None
    tokenizer = PairTokenizer.from_file(tokenizer_file)
    pair = tokenizer.pair(*tokenizer.encode(["what is panda?", "hi"]))
    assert list(pair.input_ids) == [0, 21381, 21152, 49990, 61, 2, 2, 23233, 2]
    assert set(pair.token_type_ids) == {0}
