"""Runs that stop and go on, and runs that another one's folder would mislead."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import write_bert, write_checkpoint
from judged import write_beir
from small_recipe import small_recipe

from jina_rerank import ConfigurationError, LocalScorer, Reranker
from jina_rerank.distillation import distill, read_recipe
from jina_rerank.encoders import JinaBert


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return JinaBert.from_pretrained(folder).state_dict()


def test_a_run_goes_on_where_it_stopped(tmp_path):
    recipe = read_recipe(small_recipe(tmp_path))
    whole = distill(recipe, tmp_path / "whole")
    distill(recipe, tmp_path / "parts", until=2)
    parts = distill(recipe, tmp_path / "parts")
    one, other = weights(whole), weights(parts)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_that_was_not_written_is_written_by_the_next_call(tmp_path):
    recipe = read_recipe(small_recipe(tmp_path))
    out = tmp_path / "out"
    model = distill(recipe, out, until=2)
    for name in ("model", "evaluated.jsonl"):
        (out / name).rename(tmp_path / name)
    distill(recipe, out)
    last = weights(model)
    # As if the process had been killed between the last state and the model.
    shutil.rmtree(model)
    for name in ("model", "evaluated.jsonl"):
        (tmp_path / name).replace(out / name)
    assert not torch.equal(weights(model)["classifier.weight"], last["classifier.weight"])
    distill(recipe, out)
    assert all(torch.equal(tensor, last[name]) for name, tensor in weights(model).items())
    shutil.rmtree(model)
    distill(recipe, out)
    assert all(torch.equal(tensor, last[name]) for name, tensor in weights(model).items())


def evaluated(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "evaluated.jsonl").read_text().splitlines()]


def test_a_finished_run_is_not_evaluated_again_unless_the_evaluation_changed(tmp_path):
    write_beir(tmp_path / "beir")
    evaluation = f'collections = ["{tmp_path}/beir"]'
    card = {"card": 'name = "first"'}
    out = tmp_path / "out"
    model = distill(read_recipe(small_recipe(tmp_path, evaluation=evaluation, **card)), out)
    lines, written = evaluated(out), (model / "model.safetensors").stat()
    assert [line["step"] for line in lines] == [2, 4]

    card = {"card": 'name = "second"'}
    distill(read_recipe(small_recipe(tmp_path, evaluation=evaluation, **card)), out)
    assert evaluated(out) == lines
    assert (model / "model.safetensors").stat().st_mtime_ns == written.st_mtime_ns
    assert (model / "README.md").read_text().count("# second") == 1

    deeper = f"{evaluation}\ndepth = 3"
    distill(read_recipe(small_recipe(tmp_path, evaluation=deeper)), out)
    assert [(line["step"], line["depth"]) for line in evaluated(out)] == [(2, 50), (4, 3)]

    # From the beginning, in the same folder: the figures of the steps to come are not there yet.
    shutil.rmtree(out / "training")
    distill(read_recipe(small_recipe(tmp_path, evaluation=evaluation)), out, until=2)
    assert evaluated(out) == lines[:1]


OTHERS = {
    "student": {"student": 'checkpoint = "{folder}/other"'},
    "data": {"data": 'pairs = ["{folder}/pairs.jsonl"]\nqueries = 9'},
    "teacher": {"[teacher]": 'name = "words"\nmodel = "bm25"\nweight = 0.5'},
    "ranking": {"ranking": "tokens_per_step = 300\ncontrastive = 1"},
    "training.dtype": {"training": 'steps = 4\ndtype = "bfloat16"\nsave_every = 2'},
}


@pytest.mark.parametrize("part", OTHERS)
def test_another_recipe_in_the_same_folder_is_refused_before_anything_is_replaced(tmp_path, part):
    write_checkpoint(tmp_path / "other", seed=7)
    out = tmp_path / "out"
    distill(read_recipe(small_recipe(tmp_path)), out, until=2)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    changed = {name: text.format(folder=tmp_path) for name, text in OTHERS[part].items()}
    with pytest.raises(ConfigurationError, match=rf"out holds another run.* recipe's {part} or"):
        distill(read_recipe(small_recipe(tmp_path, **changed)), out)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert {**after, out / "lock": 0} == {**before, out / "lock": 0}


def test_another_checkpoint_in_the_students_folder_is_another_student(tmp_path):
    recipe = small_recipe(tmp_path)
    distill(read_recipe(recipe), tmp_path / "out", until=2)
    write_checkpoint(tmp_path / "student", seed=7)
    with pytest.raises(ConfigurationError, match="differs in the recipe's student"):
        distill(read_recipe(recipe), tmp_path / "out")


def test_a_run_with_no_teacher_does_not_resume_one_with_a_teacher(tmp_path):
    path = small_recipe(tmp_path)
    model = distill(read_recipe(path), tmp_path / "out")
    card = (model / "README.md").read_text()
    text = path.read_text().replace('[[teacher]]\nname = "words"\nmodel = "bm25"', "")
    path.write_text(f"teacher = []\n{text}\nkl = 0\ncontrastive = 1")
    with pytest.raises(ConfigurationError, match="differs in the recipe's teacher, ranking"):
        distill(read_recipe(path), tmp_path / "out")
    assert (model / "README.md").read_text() == card


def test_a_run_goes_on_with_more_steps_and_with_files_that_were_moved(tmp_path):
    small = small_recipe(tmp_path)
    distill(read_recipe(small), tmp_path / "out")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("student", "pairs.jsonl"):
        (tmp_path / name).rename(moved / name)
    text = small.read_text()
    for name in ("student", "pairs.jsonl"):
        text = text.replace(f'"{tmp_path}/{name}"', f'"{moved}/{name}"')
    small.write_text(text.replace("steps = 4", "steps = 6"))
    distill(read_recipe(small), tmp_path / "out")
    assert evaluated(tmp_path / "out")[-1]["step"] == 6


def test_a_student_of_some_layers_is_matched_trained_and_resumed(tmp_path):
    write_bert(tmp_path / "bert", layers=4)

    def recipe(layers: list[int]) -> Path:
        student = f'convert = "{tmp_path}/bert"\nlayers = {layers}'
        matching = {"student.matching": "steps = 3\ntokens_per_step = 200"}
        return small_recipe(tmp_path, student=student, **matching)

    model = distill(read_recipe(recipe([0, 3])), tmp_path / "out")
    config = json.loads((model / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    matched = [
        json.loads(x) for x in (tmp_path / "out/matching/log.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in matched] == [1, 2, 3]
    assert len(Reranker(LocalScorer(model)).rank("panda", ["a bear", "a cup"])) == 2
    before = weights(model)
    again = weights(distill(read_recipe(recipe([0, 3])), tmp_path / "out"))
    assert all(torch.equal(before[name], again[name]) for name in before)

    with pytest.raises(ConfigurationError, match=r"out holds another run.* recipe's student or"):
        distill(read_recipe(recipe([1, 2])), tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"student\.layers: .*has 4 layers, not \[4\]"):
        distill(read_recipe(recipe([4])), tmp_path / "new")
