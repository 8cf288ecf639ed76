"""Mistakes in recipes, each with the field that errors name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jina_rerank import InputError
from jina_rerank.distillation import (
    BiToCrossStudent,
    MatchingSettings,
    RankingSettings,
    TeacherSettings,
    TrainingSettings,
    read_recipe,
)
from jina_rerank.distillation.recipe import DataSettings, EvaluationSettings

MEANT = {
    "student": {"bi_to_cross": '"bert"'},
    "student.matching": {},
    "data": {"pairs": '["pairs.jsonl"]'},
    "[teacher]": {"name": '"words"', "model": '"bm25"'},
    "ranking": {},
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
    "student.matching_weight": NOT_NEGATIVE,
    "student.seed": BEYOND_64_BITS,
    "student.matching.steps": COUNT,
    "student.matching.learning_rate": MORE_THAN_0,
    "student.matching.warm_up": ("-1",),
    "student.matching.decay": ("-1",),
    "student.matching.tokens_per_step": COUNT,
    "data.queries": COUNT,
    "data.weights": ("{ a = -1 }", "{ a = nan }", "{ a = inf }"),
    "data.seed": BEYOND_64_BITS,
    "teacher.weight": MORE_THAN_0,
    "ranking.kl": NOT_NEGATIVE,
    "ranking.margin_mse": NOT_NEGATIVE,
    "ranking.contrastive": NOT_NEGATIVE,
    "ranking.pointwise": NOT_NEGATIVE,
    "ranking.temperature": MORE_THAN_0,
    "ranking.passages": ("1", "-3"),
    "ranking.tokens_per_step": COUNT,
    "ranking.longest_query": COUNT,
    "ranking.longest_passage": LENGTHS,
    "ranking.consistency": COUNT,
    "ranking.blank_rate": ("-0.1", "1.1", "nan"),
    "ranking.seed": BEYOND_64_BITS,
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
        if table == "student.matching" and "student" in changes and table not in changes:
            continue
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
    table, _, name = field.rpartition(".")
    path = write(tmp_path, {"[teacher]" if table == "teacher" else table: {name: value}})
    called = r"teacher words\.weight" if table == "teacher" else field.replace(".", r"\.")
    with pytest.raises(
        InputError, match=rf"^recipe: {called}\S*: (must be|a length must be|names)"
    ):
        read_recipe(path)


def test_every_number_of_a_recipe_has_a_limit() -> None:
    tables = {
        "student": BiToCrossStudent,
        "student.matching": MatchingSettings,
        "data": DataSettings,
        "teacher": TeacherSettings,
        "ranking": RankingSettings,
        "training": TrainingSettings,
        "evaluation": EvaluationSettings,
    }
    fields = {
        f"{table}.{name}": f"{field!r} {field.annotation!r}"
        for table, kind in tables.items()
        for name, field in kind.model_fields.items()
    }
    numbers = {name for name, said in fields.items() if re.search(r"\b(int|float)\b", said)}
    assert {name for name in numbers if "limit" in fields[name]} == numbers == OUT_OF_RANGE.keys()


SHAPED = {"bi_to_cross": "", "tokenizer": '"t.json"'}
CONVERTED = {"bi_to_cross": "", "convert": '"bert"'}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student": {**CONVERTED, "layers": "[]"}}, r"student\.layers: must rise"),
        ({"student": {**CONVERTED, "layers": "[2, 0]"}}, r"student\.layers: must rise"),
        ({"student": {**CONVERTED, "layers": "[0, 0]"}}, r"student\.layers: must rise"),
        ({"student": {**CONVERTED, "layers": "[-1]"}}, r"student\.layers: must rise"),
        ({"student": {**CONVERTED, "layers": "[0.5]"}}, r"student\.layers\[0\]: must be int"),
        (
            {"student": {"bi_to_cross": "", "checkpoint": '"m"', "layers": "[0]"}},
            r"student\.layers: is for a student by convert; leave it out",
        ),
        (
            {"student": {"bi_to_cross": "", "checkpoint": '"m"', "intermediate_size": "8"}},
            r"student\.intermediate_size: is for a student by bi_to_cross or convert",
        ),
        ({"student": {"layers": "[0]"}}, r"student\.layers: is for a student by convert"),
        (
            {"student": {**CONVERTED, "matching_weight": "1"}},
            r"student\.matching_weight: is for a student by bi_to_cross; leave it out",
        ),
        (
            {
                "student": {"bi_to_cross": "", "checkpoint": '"m"'},
                "student.matching": {"steps": "1"},
            },
            r"student\.matching: is for a student by bi_to_cross or convert",
        ),
        ({"student": {"convert": '"m"'}}, r"student: give one of .*, not \['bi_to_cross', 'conv"),
        ({"student": {"tokenizer": '"t.json"'}}, r"student\.tokenizer: is for a student by shape"),
        (
            {"student": {"size": "1"}},
            r"student\.size: no such field; there are \['bi_to_cross', 'int",
        ),
        ({"student": {**SHAPED, "shape": "3"}}, r"student\.shape: must be a table, not 3"),
        (
            {"student": {**SHAPED, "shape": "{ hidden = 3 }"}},
            r"student\.shape\.hidden: no such field",
        ),
        (
            {"student": {**SHAPED, "tokenizer": "", "shape": "{}"}},
            r"student\.tokenizer: is missing",
        ),
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
        (
            {"[teacher]": {"query_prompt": '"q: "'}},
            "teacher words: query_prompt and passage_prompt are for encoders",
        ),
        ({"[teacher]": {"model": '"bm52:x"'}}, r"teacher words\.model: 'bm52' before the colon"),
        ({"[teacher]": {"name": '""'}}, r"teacher\[0\]\.name: must be able to name a folder"),
        ({"[teacher]": {"name": '"../other"'}}, r"teacher .*\.name: must be able"),
        ({"[teacher]": {"name": '"a/b"'}}, r"teacher .*\.name: must be able"),
        (
            {"[teacher]": {"name": '"w"\nmodel = "bm25"\n[[teacher]]\nname = "w"'}},
            "two are called 'w'",
        ),
        (
            {"ranking": {"longest_passage": "{ 8 = true }"}},
            r"ranking\.longest_passage\.8: must be float, not True",
        ),
        ({"[teacher]": {"wight": "3"}}, r"teacher words\.wight: no such field; there are \['name'"),
        ({"data": {"weights": '{ a = "x" }'}}, r"data\.weights\.a: must be float, not 'x'"),
        (
            {"ranking": {"kl": "0", "contrastive": "0", "pointwise": "0"}},
            "ranking: kl, margin_mse, contrastive and pointwise are all 0",
        ),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read_recipe(write(tmp_path, changes))


def test_one_teacher_is_a_list_too(tmp_path):
    path = write(tmp_path, {})
    path.write_text(path.read_text().replace("[[teacher]]", "[teacher]"))
    with pytest.raises(InputError, match=r"recipe: teacher: must be a list of tables, whose hea"):
        read_recipe(path)
