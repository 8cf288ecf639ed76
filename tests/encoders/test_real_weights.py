"""Jina's own weights, wherever they can be had: the hub, its cache, or a folder.

JINA_RERANK_TEST_MODELS may name a folder that holds them as jina-reranker-v1-turbo-en and so on.
"""

import json
import os
from functools import cache
from pathlib import Path

import pytest
import torch
from quickstart import DOCUMENTS, QUERY
from tokenizers import Tokenizer

from jina_rerank import LocalScorer, ModelLoadError, Reranker
from jina_rerank.encoders import JinaBert, PairTokenizer
from jina_rerank.encoders.files import CheckpointFiles, find_checkpoint

pytestmark = pytest.mark.real_weights

REVISIONS = {
    "jina-reranker-v1-turbo-en": "b8c14f4e723d9e0aab4732a7b7b93741eeeb77c2",
    "jina-reranker-v1-tiny-en": "aca45de6945b5dc6399abcd2a9c55ded5dc9111f",
    "jina-reranker-v1-base-en": "a05700294977fa3ecadc070b1f5b2a76e0bf1eef",
}


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
    # The cards show the call and no scores; that the range itself comes first is beyond doubt.
    assert DOCUMENTS[ranking[0].index] == "Natural organic skincare range for sensitive skin"


@pytest.mark.parametrize("name", ["jina-reranker-v1-turbo-en", "jina-reranker-v1-tiny-en"])
def test_published_token_ids(name: str) -> None:
    tokenizer_file = real_model(name).tokenizer
    assert tokenizer_file is not None
    tokenizer = PairTokenizer.from_file(tokenizer_file)
    pair = tokenizer.pair(*tokenizer.encode(["what is panda?", "hi"]))
    assert list(pair.input_ids) == [0, 21381, 21152, 49990, 61, 2, 2, 23233, 2]
    assert set(pair.token_type_ids) == {0}


def test_paper_slopes_give_the_logit_that_tei_publishes(tmp_path: Path) -> None:
    """TEI's backend has the paper's slopes; the text stands alone, without a query."""
    found = real_model("jina-reranker-v1-tiny-en")
    config = json.loads(found.config.read_text()) | {"alibi_slopes": "paper"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for path in found.weights:
        (tmp_path / path.name).symlink_to(path.resolve())
    ids = Tokenizer.from_file(str(found.tokenizer)).encode("What is Deep Learning?").ids
    logit = JinaBert.from_pretrained(tmp_path)(torch.tensor([ids])).item()
    assert logit == pytest.approx(-0.6045344, abs=1e-3)
