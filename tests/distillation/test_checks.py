"""Mistakes in recipes, each with the field that errors name."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from jina_rerank import InputError
from jina_rerank.distillation.checks import RANGES
from jina_rerank.distillation.objective import ListSettings
from jina_rerank.distillation.recipe import (
    DataRecipe,
    EvaluationRecipe,
    HealingRecipe,
    StudentRecipe,
    TeacherRecipe,
    read_recipe,
)
from jina_rerank.distillation.trainer import Settings

MEANT = {
    "student": {"convert": '"bert"'},
    "data": {"pairs": '["pairs.jsonl"]'},
    "[teacher]": {"name": '"words"', "bm25": "true"},
    "healing": {},
    "lists": {},
    "training": {"steps": "4"},
    "evaluation": {},
}

COUNT, MORE_THAN_0, NOT_NEGATIVE = (
    ("0", "-1"),
    ("0.0", "-0.5", "nan", "inf"),
    ("-0.5", "nan", "inf"),
)
BEYOND_64_BITS = (str(2**63), str(-(2**63) - 1))

LENGTHS = ("{}", "{ 64 = 0 }", "{ 0 = 1 }", "{ -3 = 1 }", "{ 64 = -1 }")

OUT_OF_RANGE = {
    "student.intermediate_size": COUNT,
    "student.seed": BEYOND_64_BITS,
    "healing.steps": COUNT,
    "healing.learning_rate": MORE_THAN_0,
    "healing.warm_up": ("-1",),
    "healing.decay": ("-1",),
    "healing.tokens_per_step": COUNT,
    "data.queries": COUNT,
    "data.weights": ("{ a = -1 }", "{ a = nan }", "{ a = inf }"),
    "data.seed": BEYOND_64_BITS,
    "teacher.weight": MORE_THAN_0,
    "lists.kl": NOT_NEGATIVE,
    "lists.margin_mse": NOT_NEGATIVE,
    "lists.contrastive": NOT_NEGATIVE,
    "lists.pointwise": NOT_NEGATIVE,
    "lists.imitation": NOT_NEGATIVE,
    "lists.temperature": MORE_THAN_0,
    "lists.passages": ("1", "-3"),
    "lists.tokens_per_step": COUNT,
    "lists.longest_query": COUNT,
    "lists.longest_passage": LENGTHS,
    "lists.longest_passage_before_decay": LENGTHS,
    "lists.answer_within": COUNT,
    "lists.blank": ("-0.1", "1.1", "nan"),
    "lists.seed": BEYOND_64_BITS,
    "training.steps": COUNT,
    "training.learning_rate": MORE_THAN_0,
    "training.warm_up": ("-1",),
    "training.decay": ("-1",),
    "training.weight_decay": NOT_NEGATIVE,
    "training.clip": MORE_THAN_0,
    "training.save_every": COUNT,
    "evaluation.queries": COUNT,
    "evaluation.depth": COUNT,
}


def write(folder: Path, changes: dict[str, dict[str, str]]) -> Path:
    """A recipe as it is meant to be, with these fields changed; "" leaves one out."""
    lines = []
    for table in {**MEANT, **changes}:
        meant = {**MEANT.get(table, {}), **changes.get(table, {})}
        lines += [f"[{table}]", *(f"{name} = {value}" for name, value in meant.items() if value)]
    path = folder / "recipe.toml"
    path.write_text("\n".join(lines))
    return path


def test_what_is_meant_is_read(tmp_path):
    assert read_recipe(write(tmp_path, {})).training.steps == 4


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, bad in OUT_OF_RANGE.items() for value in bad]
)
def test_a_number_out_of_range_is_named(tmp_path, field, value):
    table, _, name = field.partition(".")
    path = write(tmp_path, {"[teacher]" if table == "teacher" else table: {name: value}})
    called = r"teacher words\.weight" if table == "teacher" else field.replace(".", r"\.")
    with pytest.raises(
        InputError, match=rf"^recipe: {called}\S*: (must be|a length must be|names)"
    ):
        read_recipe(path)


def test_every_number_of_a_recipe_has_a_range():
    tables = {
        "student": StudentRecipe,
        "healing": HealingRecipe,
        "data": DataRecipe,
        "teacher": TeacherRecipe,
        "lists": ListSettings,
        "training": Settings,
        "evaluation": EvaluationRecipe,
    }
    numbers = {
        f"{table}.{field.name}"
        for table, kind in tables.items()
        for field in fields(kind)
        if str(field.type).startswith(("int", "float", "Mapping"))
    }
    checked = {f"{table}.{name}" for table, ranges in RANGES.items() for name in ranges}
    assert numbers == checked - {"student.shape.layer_norm_eps"} == OUT_OF_RANGE.keys()


SHAPED = {"convert": "", "tokenizer": '"t.json"'}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student": {"layers": "[]"}}, r"student\.layers: must rise"),
        ({"student": {"layers": "[2, 0]"}}, r"student\.layers: must rise"),
        ({"student": {"layers": "[0, 0]"}}, r"student\.layers: must rise"),
        ({"student": {"layers": "[-1]"}}, r"student\.layers: must rise"),
        ({"student": {"layers": "[0.5]"}}, r"student\.layers\[0\]: must be int"),
        (
            {"student": {"convert": "", "checkpoint": '"m"', "layers": "[0]"}},
            r"student\.layers: is for a student by convert",
        ),
        (
            {"student": {"convert": "", "checkpoint": '"m"', "compare": "true"}},
            r"student\.compare: is for a student by convert",
        ),
        (
            {"student": {"convert": "", "checkpoint": '"m"', "intermediate_size": "8"}},
            r"student\.intermediate_size: is for a student by convert",
        ),
        (
            {"student": {"convert": '"m"', "checkpoint": "", "compare": "true", "layers": "[0]"}},
            r"student\.layers: a student with compare = true has all",
        ),
        ({"lists": {"imitation": "1"}}, r"lists\.imitation: is for a student with compare = true"),
        ({"student": {"convert": "", "checkpoint": '"m"'}}, "healing: is for a student by convert"),
        ({"student": {"tokenizer": '"t.json"'}}, r"student\.tokenizer: is for a student by shape"),
        (
            {"student": {**SHAPED, "shape": "{ hidden_size = 10, num_attention_heads = 4 }"}},
            r"student\.shape: hidden_size 10 is not a multiple",
        ),
        ({"student": {**SHAPED, "shape": "{ vocab_size = 0 }"}}, r"student\.shape: vocab_size"),
        (
            {"student": {**SHAPED, "shape": "{ layer_norm_eps = 0.0 }"}},
            r"student\.shape\.layer_norm_eps: must be more than 0",
        ),
        ({"data": {"pairs": "[]"}}, r"data\.pairs: is empty"),
        ({"[teacher]": {"bm25": "false"}}, r"teacher words\.bm25: must be true"),
        ({"[teacher]": {"query_prompt": '"q: "'}}, "are for embedding"),
        ({"[teacher]": {"name": '""'}}, r"teacher\.name: must be able to name a folder"),
        ({"[teacher]": {"name": '"../other"'}}, r"teacher\.name: must be able"),
        ({"[teacher]": {"name": '"a/b"'}}, r"teacher\.name: must be able"),
        (
            {"[teacher]": {"name": '"w"\nbm25 = true\n[[teacher]]\nname = "w"'}},
            "two are called 'w'",
        ),
        (
            {"lists": {"kl": "0", "contrastive": "0", "pointwise": "0"}},
            "lists: kl, margin_mse, contrastive and pointwise are all 0",
        ),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read_recipe(write(tmp_path, changes))
