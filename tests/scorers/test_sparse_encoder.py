"""Sparse encoders as scorers, beside SPLADE's formula on transformers' own logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from checkpoints import wordpiece_tokenizer, write_bert, write_splade
from judged import COLLECTION, FOUND
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from jina_rerank import ConfigurationError, ModelLoadError, ScoreRequest, SparseEncoderScorer
from jina_rerank.evaluation import evaluate
from jina_rerank.evaluation.spelling import Speller
from jina_rerank.spec import scorer_of

QUERY = "what is a panda?"
TEXTS = ["the giant panda is a bear", "paris is a city in france " * 4, "a bear", ""]


@pytest.fixture(scope="module")
def splade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splade(tmp_path_factory.mktemp("models") / "splade")


def expected(folder: Path, query: str, texts: Sequence[str]) -> list[float]:
    """The dot products of log(1 + relu(max over tokens)) in float64, each text by itself."""
    model = BertForMaskedLM.from_pretrained(folder).double().eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def vector(text: str) -> torch.Tensor:
        ids = tokenizer.encode(text).ids
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0]
        return torch.log1p(torch.relu(logits)).amax(0)

    return [float(vector(query) @ vector(text)) for text in texts]


def score(scorer: SparseEncoderScorer, query: str, texts: Sequence[str]) -> list[float]:
    (response,) = scorer.score([ScoreRequest(query, texts)])
    return list(response.scores)


def test_the_score_is_splades_dot_product(splade: Path) -> None:
    wanted = expected(splade, QUERY, TEXTS)
    assert len({round(one, 2) for one in wanted}) == len(TEXTS), "the texts can be told apart"
    assert score(SparseEncoderScorer(splade), QUERY, TEXTS) == pytest.approx(wanted, rel=1e-4)


def test_norms_called_gamma_and_beta_are_read(splade: Path, tmp_path: Path) -> None:
    for file in splade.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(splade / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): weight
        for name, weight in weights.items()
    }
    assert any(name.endswith(".gamma") for name in renamed)
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    wanted = expected(splade, QUERY, TEXTS)
    assert score(SparseEncoderScorer(tmp_path), QUERY, TEXTS) == pytest.approx(wanted, rel=1e-4)


def test_it_is_evaluated_by_its_name(splade: Path) -> None:
    system = Speller(COLLECTION.documents).build(f"sparse-encoder:{splade}")
    evaluation = evaluate(COLLECTION, FOUND, [system], measures=["nDCG@10"])
    for query, found in evaluation.result(f"sparse-encoder:{splade}").run.items():
        texts = [COLLECTION.documents[document] for document in found]
        wanted = expected(splade, COLLECTION.queries[query], texts)
        assert list(found.values()) == pytest.approx(wanted, rel=1e-4)


def test_without_a_collection_it_is_refused(splade: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"sparse-encoder:.* needs a collection"):
        scorer_of(f"sparse-encoder:{splade}")


def test_an_encoder_without_a_sparse_head_is_refused(tmp_path: Path) -> None:
    """sentence-transformers puts a random one on top."""
    write_bert(tmp_path, layers=1)
    PreTrainedTokenizerFast(
        tokenizer_object=wordpiece_tokenizer(), pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=r"is no sparse encoder.*bi-encoder:"):
        SparseEncoderScorer(tmp_path).warm_up()
