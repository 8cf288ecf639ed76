"""JinaBERT as a model of transformers: loaded, saved, scored and trained as transformers does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import TEXTS, bpe_tokenizer, random_model, write_checkpoint, write_config
from datasets import Dataset
from hub import serve_hub
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import (
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
    losses,
)
from tokenizers import Tokenizer
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig

from jina_rerank import ConfigurationError, InputError, LocalScorer, ModelLoadError, Reranker
from jina_rerank.encoders import JinaBertConfig, quantize_state, save_checkpoint
from jina_rerank.transformers import (
    JinaBertForSequenceClassification,
    JinaBertRerankerConfig,
    load_tokenizer,
)

QUERY = "What is PANDA?"
DOCUMENTS = [*TEXTS, "", "coffee " * 9, "Paris"]
PAIRS = [(QUERY, document) for document in DOCUMENTS]


def local_scores(folder: Path) -> list[float]:
    return Reranker(LocalScorer(folder, dtype="float32")).score(QUERY, DOCUMENTS)


@pytest.fixture(params=["bpe", "wordpiece"])
def jinas(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint in Jina's layout, `model_type: bert` and remote code named."""
    return write_checkpoint(tmp_path / "jinas", tokenizer=request.param)


@pytest.fixture
def ours(jinas: Path, tmp_path: Path) -> Path:
    """The same, written by `save_checkpoint`."""
    model, tokenizer = random_model(), Tokenizer.from_file(str(jinas / "tokenizer.json"))
    save_checkpoint(model, tokenizer, tmp_path / "ours")
    return tmp_path / "ours"


def test_golden_logits(golden: Path) -> None:
    values = np.load(golden / "golden.npz")
    model = JinaBertForSequenceClassification.from_pretrained(golden)
    assert not model.training
    for case in range(3):
        ids, mask, types = (
            torch.from_numpy(values[f"case{case}_{name}"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        )
        with torch.inference_mode():
            output = model(ids, attention_mask=mask, token_type_ids=types)
        assert output.loss is None
        expected = values[f"case{case}_logits_f64"][:, None]
        np.testing.assert_allclose(output.logits, expected, atol=1e-5, rtol=0)


def test_compute_score_is_local_scorers(jinas: Path) -> None:
    model = JinaBertForSequenceClassification.from_pretrained(jinas)
    expected = local_scores(jinas)
    assert max(expected) - min(expected) > 0.01
    for batch_size in (2, 100):
        scores = model.compute_score(PAIRS, batch_size=batch_size)
        assert scores == pytest.approx(expected, abs=1e-5)
    assert model.compute_score(PAIRS[0]) == pytest.approx(expected[:1], abs=1e-5)
    assert model.compute_score([]) == []


def test_compute_score_cuts_to_max_length(jinas: Path) -> None:
    model = JinaBertForSequenceClassification.from_pretrained(jinas)
    long, short = "coffee " * 300, "coffee " * 200
    whole = model.compute_score([("a", long), ("a", short)])
    cut = model.compute_score([("a", long), ("a", short)], max_length=40)
    assert cut[0] == pytest.approx(cut[1], abs=1e-6)
    assert abs(whole[0] - whole[1]) > 1e-5


def test_compute_score_refuses_what_is_no_pair(jinas: Path) -> None:
    model = JinaBertForSequenceClassification.from_pretrained(jinas)
    with pytest.raises(InputError, match=r"sentence_pairs\[1\]"):
        model.compute_score([("a", "b"), ("a", "b", "c")])


def test_what_is_saved_is_what_local_scorer_loads(jinas: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    JinaBertForSequenceClassification.from_pretrained(jinas).save_pretrained(saved)
    config = json.loads((saved / "config.json").read_text())
    assert "auto_map" not in config
    assert JinaBertConfig.from_file(saved / "config.json") == JinaBertConfig.from_file(
        jinas / "config.json"
    )
    assert local_scores(saved) == pytest.approx(local_scores(jinas), abs=1e-6)


@pytest.mark.parametrize("feed_forward_type", ["reglu", "original"])
def test_every_field_is_kept(tmp_path: Path, feed_forward_type: str) -> None:
    kind = {"feed_forward_type": feed_forward_type, "alibi_slopes": "paper"}
    sizes = {"num_attention_heads": 2, "text_positions": 5, "max_position_embeddings": 77}
    folder = write_checkpoint(tmp_path / "a", **kind, **sizes)
    model = JinaBertForSequenceClassification.from_pretrained(folder)
    model.save_pretrained(tmp_path / "b")
    stored = JinaBertConfig.from_file(tmp_path / "b" / "config.json")
    assert stored == JinaBertConfig.from_file(folder / "config.json")
    assert model.config.to_jinabert() == stored
    assert load_tokenizer(tmp_path / "b").model_max_length == 77


def test_defaults_are_the_models_own() -> None:
    assert JinaBertRerankerConfig().to_jinabert() == JinaBertConfig()


def test_auto_classes_load_what_was_saved(ours: Path) -> None:
    for auto in (AutoModel, AutoModelForSequenceClassification):
        model = auto.from_pretrained(ours)
        assert type(model) is JinaBertForSequenceClassification
        assert model.compute_score(PAIRS) == pytest.approx(local_scores(ours), abs=1e-5)


def test_cross_encoder_gives_local_scorers_scores(ours: Path) -> None:
    encoder = CrossEncoder(str(ours), device="cpu")
    assert encoder.max_seq_length == 8192
    assert encoder.predict(PAIRS) == pytest.approx(local_scores(ours), abs=1e-5)


def test_cross_encoder_over_jinas_layout(jinas: Path, tmp_path: Path) -> None:
    """Loaded by name, saved, and then like any other; the saved tokenizer stays as it is."""
    JinaBertForSequenceClassification.from_pretrained(jinas).save_pretrained(tmp_path / "saved")
    encoder = CrossEncoder(str(tmp_path / "saved"), device="cpu")
    expected = local_scores(jinas)
    assert encoder.predict(PAIRS) == pytest.approx(expected, abs=1e-5)
    encoder.save_pretrained(str(tmp_path / "again"))
    assert local_scores(tmp_path / "again") == pytest.approx(expected, abs=1e-5)


def test_tokenizer_reads_as_its_file_says(jinas: Path) -> None:
    tokenizer = load_tokenizer(jinas)
    expected = Tokenizer.from_file(str(jinas / "tokenizer.json")).encode(QUERY, TEXTS[0])
    found = tokenizer(QUERY, TEXTS[0])
    assert found["input_ids"] == expected.ids
    assert found["token_type_ids"] == expected.type_ids
    padded = tokenizer([QUERY, "a"], [TEXTS[0], "b"], padding=True)
    assert padded["attention_mask"][1][-1] == 0
    assert padded["input_ids"][1][-1] == tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("asked", "found"),
    [(None, torch.float32), ("auto", torch.bfloat16), ("bfloat16", torch.bfloat16)],
)
def test_dtype(small_checkpoint: Path, asked: str | None, found: torch.dtype) -> None:
    model = JinaBertForSequenceClassification.from_pretrained(small_checkpoint, dtype=asked)
    assert {parameter.dtype for parameter in model.parameters()} == {found}
    assert model.config.dtype == found
    assert model.compute_score(PAIRS) == pytest.approx(local_scores(small_checkpoint), abs=0.05)


def test_quantized_weights_are_weights_again(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "int8")
    state = quantize_state(load_file(folder / "model.safetensors"))
    save_file(state, folder / "model.safetensors")
    write_config(folder, quantization="int8_rows")
    model = JinaBertForSequenceClassification.from_pretrained(folder)
    model.save_pretrained(tmp_path / "float")
    assert "quantization" not in json.loads((tmp_path / "float" / "config.json").read_text())
    assert local_scores(tmp_path / "float") == pytest.approx(local_scores(folder), abs=1e-6)


def test_the_embedded_model() -> None:
    model = JinaBertForSequenceClassification.from_pretrained("jina-rerank-mini")
    expected = Reranker(LocalScorer(dtype="float32")).score(QUERY, DOCUMENTS)
    assert model.compute_score(PAIRS) == pytest.approx(expected, abs=1e-4)
    assert load_tokenizer("jina-rerank-mini").model_max_length == 8192


@pytest.mark.parametrize("change", ["missing", "left over", "not finite"])
def test_other_weights_are_refused(jinas: Path, change: str) -> None:
    state = load_file(jinas / "model.safetensors")
    match change:
        case "missing":
            del state["classifier.bias"]
        case "left over":
            state["classifier.more"] = torch.zeros(1)
        case _:
            state["classifier.bias"].fill_(torch.nan)
    save_file(state, jinas / "model.safetensors")
    with pytest.raises(ModelLoadError, match="classifier"):
        JinaBertForSequenceClassification.from_pretrained(jinas)


def test_other_models_are_refused(jinas: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        JinaBertForSequenceClassification.from_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(ConfigurationError, match="BertConfig"):
        JinaBertForSequenceClassification.from_pretrained(jinas, config=BertConfig())
    with pytest.raises(ConfigurationError, match="num_labels is 3"):
        JinaBertForSequenceClassification.from_pretrained(jinas, num_labels=3)
    write_config(jinas, position_embedding_type="absolute")
    with pytest.raises(ModelLoadError, match="not a JinaBERT"):
        JinaBertForSequenceClassification.from_pretrained(jinas)


def test_without_a_tokenizer_there_are_logits_and_no_scores(jinas: Path) -> None:
    (jinas / "tokenizer.json").unlink()
    model = JinaBertForSequenceClassification.from_pretrained(jinas)
    assert model(torch.tensor([[0, 7, 2]])).logits.shape == (1, 1)
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        model.compute_score(PAIRS)


def test_padding_changes_nothing_and_stands_at_the_end(jinas: Path) -> None:
    model = JinaBertForSequenceClassification.from_pretrained(jinas)
    ids, mask = torch.tensor([[0, 7, 9, 2]]), torch.tensor([[1, 1, 1, 0]])
    padded, alone = model(ids, attention_mask=mask).logits, model(ids[:, :3]).logits
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="attention_mask"):
        model(ids, attention_mask=mask.flip(1))


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 300, (3, 12), generator=torch.Generator().manual_seed(0))
    return {
        "input_ids": ids,
        "attention_mask": torch.tensor([[1] * 12, [1] * 9 + [0] * 3, [1] * 12]),
    }


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_loss_is_binary_cross_entropy(jinas: Path, shape: tuple[int, ...]) -> None:
    model = JinaBertForSequenceClassification.from_pretrained(jinas)
    labels = [1.0, 0.0, 0.3]
    loss, logits = model(**batch(), labels=torch.tensor(labels).view(shape), return_dict=False)
    scores = 1 / (1 + np.exp(-logits.detach().double().numpy()[:, 0]))
    y = np.array(labels)
    expected = -(y * np.log(scores) + (1 - y) * np.log(1 - scores)).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_of_regression_is_the_squared_error(jinas: Path) -> None:
    model = JinaBertForSequenceClassification.from_pretrained(jinas, problem_type="regression")
    labels = torch.tensor([3.0, -2.0, 0.5])
    output = model(**batch(), labels=labels)
    expected = ((output.logits[:, 0] - labels) ** 2).mean().item()
    assert output.loss.item() == pytest.approx(expected, rel=1e-6)


def test_gradients_reach_every_parameter(jinas: Path) -> None:
    model = JinaBertForSequenceClassification.from_pretrained(jinas).train()
    inputs = batch()
    types = (torch.arange(12) > 5).long().expand(3, 12)
    model(**inputs, token_type_ids=types, labels=torch.tensor([1.0, 0.0, 1.0])).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias of the keys shifts all scores of a query alike, which softmax does not see.
        if not name.endswith("self.key.bias"):
            assert parameter.grad.abs().max() > 0, name


def test_new_models_start_at_random() -> None:
    torch.manual_seed(0)
    config = JinaBertRerankerConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config)
    assert model.num_labels == 1
    assert 0.01 < model.bert.embeddings.word_embeddings.weight.std() < 0.03
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()
    with pytest.raises(ConfigurationError, match=r"tokenizer\.json"):
        model.compute_score(PAIRS)


def test_cross_encoder_trainer_takes_a_step(tmp_path: Path) -> None:
    save_checkpoint(random_model(), bpe_tokenizer(), tmp_path / "ours")
    encoder = CrossEncoder(str(tmp_path / "ours"), device="cpu")
    before = encoder.predict(PAIRS[:2])
    trainer = CrossEncoderTrainer(
        model=encoder,
        args=CrossEncoderTrainingArguments(
            output_dir=str(tmp_path / "run"),
            max_steps=3,
            learning_rate=1e-2,
            per_device_train_batch_size=2,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict(
            {"query": [QUERY] * 2, "document": DOCUMENTS[:2], "label": [1.0, 0.0]}
        ),
        loss=losses.BinaryCrossEntropyLoss(encoder),
    )
    trainer.train()
    after = encoder.predict(PAIRS[:2])
    assert after[0] - after[1] > before[0] - before[1] + 0.01
    encoder.save_pretrained(str(tmp_path / "trained"))
    assert local_scores(tmp_path / "trained")[:2] == pytest.approx(after, abs=1e-5)


FROM_HUB = """
from jina_rerank.transformers import JinaBertForSequenceClassification, load_tokenizer
model = JinaBertForSequenceClassification.from_pretrained("org/small", revision="v1")
print(load_tokenizer("org/small", revision="v1").pad_token, model.compute_score([("a", "b")])[0])
"""


def test_from_a_hub_and_without_its_code(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "hub" / "org" / "small")
    (folder / "modeling_bert.py").write_text("raise SystemExit('executed')")
    with serve_hub(tmp_path / "hub") as hub:
        home = tmp_path / "home"
        done = subprocess.run(
            [sys.executable, "-c", FROM_HUB],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home)},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert not [path for path in hub.requests if path.endswith(".py")]
        assert all("/resolve/v1/" in path for path in hub.requests if "/org/" in path)
    pad, score = done.stdout.split()
    assert pad == "<pad>"
    expected = Reranker(LocalScorer(folder, dtype="float32")).score("a", ["b"])
    assert [float(score)] == pytest.approx(expected, abs=1e-5)


WITHOUT = """
import sys
sys.modules["transformers"] = None  # what importing finds where it is not installed
from jina_rerank import ConfigurationError
try:
    import jina_rerank.transformers
except ConfigurationError as error:
    print(error)
"""


def test_without_transformers_it_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith('pip install "jina-rerank[transformers]"')
