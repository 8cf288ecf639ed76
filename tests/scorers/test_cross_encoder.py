"""Other cross-encoders, against transformers' own answer for each pair alone."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from checkpoints import TEXTS, wordpiece_tokenizer, write_checkpoint
from cross_encoders import (
    SIZES,
    bert,
    deberta_v2,
    gpt2,
    llama,
    llama_without_padding,
    save,
    xlm_roberta,
)
from families import write_reranker
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch.nn import Identity
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertModel

from jina_rerank import (
    BiEncoderScorer,
    ConfigurationError,
    CrossEncoderScorer,
    ModelLoadError,
    Reranker,
    ScoringError,
    SparseEncoderScorer,
)

QUERY = "what is panda?"
DOCUMENTS = [*TEXTS, "", "coffee " * 9, "paris"]
MODELS = {
    "bert": bert,
    "xlm-roberta": xlm_roberta,
    "deberta-v2": deberta_v2,
    "gpt2": gpt2,
    "llama": llama,
    "llama-without-padding": llama_without_padding,
}


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp(request.param)
    MODELS[request.param](path)
    return path


def test_logits_are_those_of_transformers(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ranking = Reranker(CrossEncoderScorer(folder, dtype="float32")).rank(QUERY, DOCUMENTS)
    assert len({hit.logit for hit in ranking}) == len(DOCUMENTS)
    for hit in ranking:
        # As a batch of one: alone, transformers takes an empty document for no document.
        features = tokenizer([QUERY], [hit.text], return_tensors="pt")
        with torch.inference_mode():
            logit = model(**features).logits.item()
        assert hit.logit == pytest.approx(logit, abs=1e-4)
        assert hit.score == pytest.approx(torch.tensor(logit).sigmoid().item(), abs=1e-4)
        assert hit.truncated_tokens == 0


async def test_what_is_cut_is_the_document_and_it_is_reported(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    document = "paris coffee " * 60
    reranker = Reranker(CrossEncoderScorer(folder, dtype="float32"))
    (hit,) = await reranker.arank(QUERY, [document])
    special = tokenizer.num_special_tokens_to_add(pair=True)
    query = len(tokenizer(QUERY, add_special_tokens=False)["input_ids"])
    total = len(tokenizer(document, add_special_tokens=False)["input_ids"])
    assert hit.tokens == 64 - special - query, "64 positions, also where 66 are declared"
    assert hit.tokens + hit.truncated_tokens == total


def test_chunks(folder: Path) -> None:
    chunked = Reranker(CrossEncoderScorer(folder, dtype="float32", long_documents="chunk"))
    (hit,) = chunked.rank(QUERY, ["paris coffee " * 60])
    assert hit.truncated_tokens == 0


def test_a_model_with_two_outputs_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(vocab_size=400, **{**SIZES, "num_labels": 2})
    tokenizer = transformers.BertTokenizerFast(tokenizer_object=wordpiece_tokenizer())
    save(tmp_path, transformers.BertForSequenceClassification(config), tokenizer)
    with pytest.raises(ModelLoadError, match="2 outputs; a reranker has one"):
        CrossEncoderScorer(tmp_path).warm_up()


def test_a_model_without_a_head_is_refused_and_gets_no_random_one(tmp_path: Path) -> None:
    bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["architectures"] = ["BertModel"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="is BertModel, not a reranker"):
        CrossEncoderScorer(tmp_path).warm_up()


def test_an_encoder_that_is_not_in_the_weights_is_refused(tmp_path: Path) -> None:
    """As of models with code of their own, whose layers have other names: it would be random."""
    bert(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    renamed = {name.replace("attention.self", "mixer"): own for name, own in state.items()}
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelLoadError, match=r"layer\.0\.attention\.self\.query\.weight and 11 more"
    ):
        CrossEncoderScorer(tmp_path).warm_up()


def test_a_pooler_that_is_not_read_may_be_missing(tmp_path: Path) -> None:
    """Encoders before a module list often lack it."""
    write_module_list_of_bert(tmp_path / "model")
    state = load_file(tmp_path / "model" / "model.safetensors")
    assert "pooler.dense.weight" in state
    without = {name: own for name, own in state.items() if not name.startswith("pooler.")}
    reranker = Reranker(CrossEncoderScorer(tmp_path / "model", dtype="float32"))
    expected = reranker.score(QUERY, TEXTS)
    save_file(without, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    again = Reranker(CrossEncoderScorer(tmp_path / "model", dtype="float32"))
    assert again.score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-6)


def write_module_list_of_bert(folder: Path) -> None:
    encoder = folder.with_name("encoder")
    bert(encoder)
    model = BertModel.from_pretrained(encoder)
    model.save_pretrained(encoder)
    hidden = model.config.hidden_size
    head = Dense(hidden, 1, activation_function=Identity(), module_output_name="scores")
    modules = [Transformer(str(encoder)), Pooling(hidden, "cls"), head]
    CrossEncoder(modules=modules, device="cpu").save(str(folder))


def test_positions_that_this_transformers_ignores_are_refused(tmp_path: Path) -> None:
    """transformers 5 has no relative positions, loads such a checkpoint all the same, and warns."""
    bert(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["position_embedding_type"] = "relative_key"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="'relative_key', which this version of transformers"):
        CrossEncoderScorer(tmp_path).warm_up()


def test_a_jinabert_checkpoint_is_refused(tmp_path: Path) -> None:
    """transformers loads it as a plain BERT with a random feed-forward, and only warns."""
    write_checkpoint(tmp_path)
    with pytest.raises(ModelLoadError, match="JinaBertModel, not a reranker"):
        CrossEncoderScorer(tmp_path).warm_up()


def test_a_tokenizer_with_more_words_than_the_model_is_a_scoring_error(tmp_path: Path) -> None:
    config = transformers.BertConfig(vocab_size=30, max_position_embeddings=64, **SIZES)
    tokenizer = transformers.BertTokenizerFast(tokenizer_object=wordpiece_tokenizer())
    save(tmp_path, transformers.BertForSequenceClassification(config), tokenizer)
    with pytest.raises(ScoringError, match=r"the model failed on \d+ tokens: index out of range"):
        Reranker(CrossEncoderScorer(tmp_path)).rank(QUERY, DOCUMENTS)


def test_a_sentence_transformers_that_is_too_old_is_said(tmp_path: Path, monkeypatch) -> None:
    bert(tmp_path)
    monkeypatch.setattr("sentence_transformers.__version__", "5.4.1")
    with pytest.raises(ConfigurationError, match=r"needs sentence-transformers 5\.5 or later, and"):
        CrossEncoderScorer(tmp_path).warm_up()


def test_weights_that_are_none_are_a_load_error(tmp_path: Path) -> None:
    bert(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ModelLoadError, match=r"cannot be loaded: .*header"):
        CrossEncoderScorer(tmp_path).warm_up()


def test_a_path_that_is_no_folder_is_no_name_for_the_hub() -> None:
    with pytest.raises(ModelLoadError, match="absent: no such folder"):
        CrossEncoderScorer(Path("absent")).warm_up()


@pytest.mark.parametrize("model", [None, 5, b"a/b"])
@pytest.mark.parametrize("kind", [CrossEncoderScorer, BiEncoderScorer, SparseEncoderScorer])
def test_what_is_no_name_is_refused(kind, model) -> None:
    with pytest.raises(ConfigurationError, match="model must be a hub id or a folder, not"):
        kind(model)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        CrossEncoderScorer(tmp_path).warm_up()
    with pytest.raises(ConfigurationError, match="dtype"):
        CrossEncoderScorer(tmp_path, dtype="float16")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "modernbert, mean"])
def test_in_bfloat16_documents_that_differ_do_not_tie(tmp_path: Path, kind: str) -> None:
    write_reranker(tmp_path, kind, **({"max_position_embeddings": 130} if kind == "bert" else {}))
    documents = [f"coffee is brewed from roasted beans {'in a jar ' * i}" for i in range(8)]
    distinct = {}
    for dtype in ("float32", "bfloat16"):
        with Reranker(CrossEncoderScorer(tmp_path, dtype=dtype)) as reranker:
            distinct[dtype] = len({hit.logit for hit in reranker.rank("coffee", documents)})
    assert distinct == {"float32": 8, "bfloat16": 8}


def test_its_head_computes_in_float32_in_bfloat16(tmp_path: Path) -> None:
    """Its logits are no bfloat16 numbers, as they would be behind a head that computes so."""
    write_reranker(tmp_path, "bert")
    with Reranker(CrossEncoderScorer(tmp_path, dtype="bfloat16")) as reranker:
        logits = torch.tensor([hit.logit for hit in reranker.rank("a coffee", ["a", "b c", "d"])])
    assert not torch.equal(logits, logits.bfloat16().float())
