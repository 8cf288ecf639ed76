"""The script that teaches the embedded model's encoder, with encoders of two small layers."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from jina_rerank.embedded import embedded_model_folder

SCRIPT = Path(__file__).parents[1] / "models/mini/training/teach_encoder.py"
TOPICS = ["tea", "iron", "snow", "music", "bread", "law", "birds", "glass"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("teach_encoder", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up there
        spec.loader.exec_module(module)
    return module


def encoder(folder: Path, width: int, seed: int) -> Path:
    """A random BERT with the embedded model's vocabulary, as sentence-transformers saves one."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522, hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=128,
    )  # fmt: skip
    plain = folder / "plain"
    BertModel(config).save_pretrained(plain)
    PreTrainedTokenizerFast(
        tokenizer_file=str(embedded_model_folder() / "tokenizer.json"),
        pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        mask_token="[MASK]", model_max_length=128,
    ).save_pretrained(plain)  # fmt: skip
    transformer = Transformer(str(plain))
    whole = SentenceTransformer(modules=[transformer, Pooling(width)], device="cpu")
    whole.save(str(folder / "whole"))
    shutil.copyfile(plain / "tokenizer.json", folder / "whole" / "tokenizer.json")
    return folder / "whole"


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return encoder(folder / "small", 16, 0), encoder(folder / "large", 32, 1)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "topics.jsonl"
    lines = [
        {"query": f"{topic} {number}", "passage": f"of {topic} there are {number} kinds"}
        for topic in TOPICS
        for number in range(12)
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def teach(script: ModuleType, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["teach_encoder.py", *map(str, arguments)])
    script.main()


def test_texts_are_embedded_as_by_sentence_transformers(script, encoders) -> None:
    small, _ = encoders
    texts = ["snow", "of snow there are many kinds, and more of ice", "glass " * 40, "tea"]
    tokenizer = Tokenizer.from_file(str(small / "tokenizer.json"))
    batch = script.TrainingBatch.of(script.tokens_of(tokenizer, texts, 100))
    model = BertModel.from_pretrained(small).eval()
    expected = SentenceTransformer(str(small), device="cpu").encode(
        texts, normalize_embeddings=True, convert_to_tensor=True
    )
    torch.testing.assert_close(script.embed(model, batch), expected, atol=2e-6, rtol=1e-5)


def test_the_encoder_comes_nearer_to_its_teacher(
    script, encoders, pairs, tmp_path, monkeypatch
) -> None:
    small, large = encoders
    teach(
        script, monkeypatch, small, large, tmp_path, pairs,
        "--steps", 30, "--learning-rate", 5e-3,
    )  # fmt: skip
    log = (tmp_path / "training/log.jsonl").read_text(encoding="utf-8").splitlines()
    divergences = [json.loads(line)["divergence"] for line in log]
    assert sum(divergences[-5:]) < 0.7 * sum(divergences[:5])
    taught = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    teacher = SentenceTransformer(str(large), device="cpu")
    before = SentenceTransformer(str(small), device="cpu")
    texts = [f"{topic} {number}" for topic in TOPICS for number in (1, 2)]
    wanted, own, first = (
        one.similarity(one.encode(texts), one.encode(texts)).flatten()
        for one in (teacher, taught, before)
    )
    assert correlation(own, wanted) > correlation(first, wanted)


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def test_a_stopped_training_goes_on(script, encoders, pairs, tmp_path, monkeypatch) -> None:
    small, large = encoders
    teach(script, monkeypatch, small, large, tmp_path / "one", pairs, "--steps", 4)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    shutil.rmtree(tmp_path / "other/model")
    teach(script, monkeypatch, small, large, tmp_path / "other", pairs, "--steps", 4)
    first, again = (
        (tmp_path / name / "model/model.safetensors").read_bytes() for name in ("one", "other")
    )
    assert first == again


def test_no_question_is_taught_by_which_models_are_chosen(script, tmp_path) -> None:
    path = tmp_path / "nq-oracle.jsonl"
    lines = [json.dumps({"query": f"question {n}", "passage": f"passage {n}"}) for n in range(500)]
    path.write_text("\n".join(lines), encoding="utf-8")
    chosen = script.chosen_pairs([path])
    assert 350 < len(chosen) < 450
    assert not any(map(script.is_to_choose_by, chosen))


def test_few_pairs_are_taken_of_a_source_of_which_there_is_enough(script, tmp_path) -> None:
    for name in ("git-doc", "wikipedia"):
        lines = [json.dumps({"query": f"q {n}", "passage": f"p {n}"}) for n in range(300)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    chosen = script.chosen_pairs(sorted(tmp_path.glob("*.jsonl")))
    sources = [pair.source for pair in chosen]
    assert sources.count("git-doc") == script.OF_A_SOURCE
    assert sources.count("wikipedia") == 300
