"""A student from a checkpoint: trained, and written so that the family's own classes read it."""

import json
from array import array
from pathlib import Path

import pytest
import torch
import transformers
from checkpoints import write_checkpoint
from families import KINDS, logits_of, write_module_list, write_reranker
from sentence_transformers import CrossEncoder

from jina_rerank.distillation import distill, read_recipe
from jina_rerank.distillation.students.checkpoint import CheckpointStudent
from jina_rerank.distillation.training.forward import TrainingBatch, pooled
from jina_rerank.encoders import EncoderModel
from jina_rerank.encoders.tokenizer import TokenPair

ALL = [*KINDS, "module list", "module list, mean"]
LENGTHS = [1, 2, 9, 40, 65, 65, 130]


def write(folder: Path, kind: str) -> object:
    if kind.startswith("module list"):
        return write_module_list(folder, pooling="mean" if "mean" in kind else "cls")
    return write_reranker(folder, kind)


def sequences(lengths: list[int] = LENGTHS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(5, 200, (length,), generator=generator) for length in lengths]


def batch(rows: list[torch.Tensor]) -> TrainingBatch:
    pairs = [TokenPair(array("i", r.tolist()), array("i", [0] * len(r))) for r in rows]
    return TrainingBatch.of(pairs)


@pytest.mark.parametrize("kind", ALL)
def test_the_forward_pass_of_training_is_that_of_the_familys_own_classes(
    tmp_path: Path, kind: str
) -> None:
    original = write(tmp_path / "model", kind)
    model = EncoderModel.from_pretrained(tmp_path / "model")
    _, read = pooled(model, batch(sequences()))
    expected = logits_of(original, sequences())
    torch.testing.assert_close(model.head(read).double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ALL)
def test_every_weight_that_a_logit_depends_on_is_trained(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "model", kind)
    model = EncoderModel.from_pretrained(tmp_path / "model").requires_grad_(True)
    _, read = pooled(model, batch(sequences()))
    (model.head(read) ** 2).sum().backward()
    without = {name for name, own in model.named_parameters() if not own.grad.any()}
    # A softmax does not depend on what is added to all of a row's scores.
    assert all(name.endswith("key.bias") for name in without)


@pytest.mark.parametrize("kind", ALL)
def test_what_was_trained_is_written_in_the_familys_own_format(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "model", kind)
    student = CheckpointStudent(checkpoint=str(tmp_path / "model"))
    model, tokenizer = student.build(())
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.mul_(1 + 0.001 * (number % 7))
    student.save(model, tokenizer, tmp_path / "saved")
    if kind.startswith("module list"):
        read = CrossEncoder(str(tmp_path / "saved"), device="cpu")
    else:
        prefix, _ = KINDS[kind]
        own = getattr(transformers, f"{prefix}ForSequenceClassification")
        read = own.from_pretrained(tmp_path / "saved").eval()
    rows = sequences()
    expected = model.forward_packed(torch.cat(rows), LENGTHS)
    torch.testing.assert_close(logits_of(read, rows).float(), expected, atol=1e-4, rtol=0)
    again = EncoderModel.from_pretrained(tmp_path / "saved")
    assert torch.equal(again.forward_packed(torch.cat(rows), LENGTHS), expected)
    original, saved = (tmp_path / name / "tokenizer.json" for name in ("model", "saved"))
    assert original.read_bytes() == saved.read_bytes()


RECIPE = """
[student]
checkpoint = "{folder}/student"

[data]
pairs = ["{folder}/pairs.jsonl"]

[[teacher]]
name = "words"
model = "bm25"
weight = 0.5

[[teacher]]
name = "large"
model = "{folder}/teacher"
weight = 0.5

[ranking]
passages = 3
tokens_per_step = 200
longest_passage = {{ 32 = 1.0 }}

[training]
steps = 2
"""


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert, mean", "module list"])
def test_a_recipe_has_any_family_as_teacher_and_as_student(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "student", kind)
    write(tmp_path / "teacher", kind)
    texts = [f"panda bear {i} paris france coffee espresso beans capital" for i in range(12)]
    with (tmp_path / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for i, text in enumerate(texts):
            file.write(json.dumps({"query": f"what is {i}?", "passage": text}) + "\n")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(folder=tmp_path), encoding="utf-8")
    folder = distill(read_recipe(tmp_path / "recipe.toml"), tmp_path / "out")
    before, after = (EncoderModel.from_pretrained(one) for one in (tmp_path / "student", folder))
    changed = [
        name
        for name, tensor in after.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[name])
    ]
    assert "classifier.weight" in changed
    assert "bert.encoder.layer.0.attention.self.query.weight" in changed


def test_a_jinabert_is_written_as_one(tmp_path: Path) -> None:
    student = CheckpointStudent(checkpoint=str(write_checkpoint(tmp_path / "model")))
    model, tokenizer = student.build(())
    student.save(model, tokenizer, tmp_path / "saved")
    again = EncoderModel.from_pretrained(tmp_path / "saved")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
