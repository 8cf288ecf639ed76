"""From a recipe to a model that ranks, on real questions and answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from checkpoints import SMALL, write_bert, write_checkpoint
from families import write_reranker
from judged import write_beir
from small_recipe import small_recipe
from tokenizers import Tokenizer
from typer.testing import CliRunner

from jina_rerank import ConfigurationError, InputError, LocalScorer, Reranker
from jina_rerank.cli.app import app
from jina_rerank.distillation import distill, read_recipe
from jina_rerank.embedded import embedded_model_folder
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.checkpoint import save_checkpoint
from jina_rerank.evaluation import Collection, RerankerSystem, bm25, evaluate, read_beir

COFFEE = Path(__file__).parents[2] / "examples/data/coffee"

RECIPE = """
[student]
checkpoint = "{student}"

[data]
pairs = ["{pairs}"]

[[teacher]]
name = "mini"
model = "{teacher}"

[ranking]
passages = 6
tokens_per_step = 1500
longest_passage = {{ 64 = 1.0 }}

[training]
steps = 24
learning_rate = 3e-5
warm_up = 5
decay = 20
save_every = 12

[evaluation]
collections = ["{collection}"]
queries = 3
depth = 5

[card]
name = "coffee"
license = "Apache-2.0"
data = "Questions of coffee.stackexchange.com, CC BY-SA."
"""


QUESTIONS = 40


def halves(collection: Collection) -> tuple[Collection, Collection]:
    """To learn from and to be judged by: every other one of 80 questions."""
    queries = list(collection.queries.items())[: 2 * QUESTIONS]
    return tuple(
        replace(
            collection,
            queries=dict(queries[part::2]),
            qrels={query: collection.qrels[query] for query, _ in queries[part::2]},
        )
        for part in (0, 1)
    )


def write_pairs(collection: Collection, path: Path) -> None:
    with path.open("w") as file:
        for query, grades in collection.qrels.items():
            for document in grades:
                pair = {
                    "query": collection.queries[query],
                    "passage": collection.documents[document],
                }
                file.write(json.dumps(pair) + "\n")


def write_student(folder: Path) -> None:
    """The embedded model with a head that knows nothing yet and says the same of everything."""
    embedded = JinaBert.from_pretrained(embedded_model_folder())
    torch.manual_seed(1)
    embedded.bert.pooler = JinaBert(embedded.config).bert.pooler
    embedded.classifier.weight.zero_()
    # It is to find out which of three figures to go by: the texts' product, and their words.
    embedded.bert.encoder.layer[-1].norm.weight[:-3] = 0.0
    tokenizer = Tokenizer.from_file(str(embedded_model_folder() / "tokenizer.json"))
    save_checkpoint(embedded, tokenizer, folder)


def ndcg(model: Path, collection: Collection) -> float:
    with Reranker(LocalScorer(model, max_length=96)) as reranker:
        system = RerankerSystem(reranker, name="student")
        found = evaluate(collection, bm25(collection, 15), [system])
    return found.result("student").measured.means["nDCG@10"]


@pytest.mark.slow
def test_a_student_learns_a_real_ranking(tmp_path):
    learned_from, judged_by = halves(read_beir(COFFEE))
    write_pairs(learned_from, tmp_path / "pairs.jsonl")
    write_student(tmp_path / "student")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        RECIPE.format(
            student=tmp_path / "student",
            pairs=tmp_path / "*.jsonl",
            teacher=embedded_model_folder(),
            collection=COFFEE,
        )
    )

    model = distill(read_recipe(recipe), tmp_path / "out")

    untrained, trained = (ndcg(one, judged_by) for one in (tmp_path / "student", model))
    assert trained > untrained + 0.05

    lines = [json.loads(x) for x in (tmp_path / "out/evaluated.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [12, 24]
    card = (model / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "Apache-2.0"
    figures = lines[-1]["ndcg@10"]["coffee"]
    for said in (
        "# coffee",
        "mini: ",
        "CC BY-SA",
        "| pairs | 40 |",
        f"| {figures['first-stage']:.4f} | {figures['student']:.4f} |",
    ):
        assert said in card
    assert list((tmp_path / "out/tensorboard").iterdir())


def test_a_student_by_shape(tmp_path):
    shape = ", ".join(f"{name} = {value}" for name, value in SMALL.items())
    recipe = small_recipe(
        tmp_path,
        student=f'shape = {{ {shape} }}\ntokenizer = "{tmp_path}/student/tokenizer.json"',
    )
    model = distill(read_recipe(recipe), tmp_path / "out")
    ranking = Reranker(LocalScorer(model)).rank("panda", ["a bear", "a cup"])
    assert len(ranking) == 2


def test_the_command(tmp_path):
    done = CliRunner().invoke(
        app, ["distill", str(small_recipe(tmp_path)), "--output", str(tmp_path / "out")]
    )
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path}/out/model\n")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"data": 'pairs = ["nowhere/*.jsonl"]'}, "no file is called nowhere"),
        ({"training": "steps = true"}, "training.steps: must be int, not True"),
        ({"training": "setps = 3"}, "training.setps: no such field"),
        ({"training": ""}, "training.steps: is missing"),
        ({"training": 'steps = 1\ndtype = "float16"'}, "training.dtype: must be one of"),
        ({"student": ""}, "student: give one of bi_to_cross, convert, checkpoint, shape, not []"),
        ({"[teacher]": 'name = "x"'}, "teacher x.model: is missing"),
        ({"ranking": "longest_passage = { many = 1.0 }"}, "keys must be of int"),
        ({"student": "shape = { hidden_size = 8 }"}, "student.tokenizer"),
        ({"student": 'shape = { feed_forward_type = "swiglu" }'}, "feed_forward_type: must be"),
        ({"data": 'pairs = "x"'}, "data.pairs: must be a list, not 'x'"),
        ({"data": "= 3"}, "is not TOML"),
    ],
)
def test_a_bad_recipe_is_an_error_that_names_the_field(tmp_path, parts, said):
    recipe = small_recipe(tmp_path, **parts)
    done = CliRunner().invoke(app, ["distill", str(recipe), "-o", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert said in done.stderr


def test_without_a_teacher_only_labels_can_be_learned(tmp_path):
    text = small_recipe(tmp_path).read_text()
    path = tmp_path / "none.toml"
    path.write_text(
        "teacher = []\n" + text.replace('[[teacher]]\nname = "words"\nmodel = "bm25"', "")
    )
    with pytest.raises(InputError, match=r"set ranking\.kl and ranking\.margin_mse to 0"):
        read_recipe(path)
    labels_only = path.read_text() + "\nkl = 0"
    path.write_text(labels_only + "\nconsistency = 2")
    with pytest.raises(InputError, match=r"ranking\.consistency: is for lists that a teacher"):
        read_recipe(path)
    path.write_text(labels_only)
    assert (distill(read_recipe(path), tmp_path / "out") / "model.safetensors").is_file()


def test_unknown_sources_are_refused(tmp_path):
    data = f'pairs = ["{tmp_path}/pairs.jsonl"]\nweights = {{ b = 2 }}'
    recipe = small_recipe(tmp_path, data=data)
    with pytest.raises(InputError, match=r"data\.weights: no such source: \['b'\]"):
        distill(read_recipe(recipe), tmp_path / "out")


def test_a_student_with_a_short_table_of_positions_is_trained_on_what_it_reads(tmp_path):
    write_reranker(tmp_path / "bert", "bert", max_position_embeddings=32)
    student = f'checkpoint = "{tmp_path}/bert"'
    recipe = small_recipe(tmp_path, student=student)
    passages = [f"the giant panda {i} is a bear " * 10 for i in range(20)]
    (tmp_path / "pairs.jsonl").write_text(
        "\n".join(
            json.dumps({"query": f"panda {i}", "passage": text}) for i, text in enumerate(passages)
        )
    )
    model = distill(read_recipe(recipe), tmp_path / "out")
    assert len(Reranker(LocalScorer(model)).rank("panda", passages[:2])) == 2

    ranking = "tokens_per_step = 300\nlongest_passage = { 64 = 1.0 }"
    recipe = small_recipe(tmp_path, student=student, ranking=ranking)
    with pytest.raises(InputError, match=r"ranking\.longest_passage: 64 does not fit.* 15 or less"):
        distill(read_recipe(recipe), tmp_path / "new")
    assert not (tmp_path / "new/prepared").exists()


def test_a_bi_encoder_put_into_a_cross_encoder_keeps_to_its_encoder(tmp_path):
    write_bert(tmp_path / "bert", layers=2)
    student = f'bi_to_cross = "{tmp_path}/bert"\nintermediate_size = 40\nmatching_weight = 3.0'
    matching = {"student.matching": "steps = 3\ntokens_per_step = 200"}
    recipe = small_recipe(tmp_path, student=student, **matching)
    model = distill(read_recipe(recipe), tmp_path / "out")
    config = json.loads((model / "config.json").read_text())
    names = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    assert [config[name] for name in names] == [3, 5, 40, 40]
    for stage, count in (("matching", 3), ("training", 4)):
        logged = (tmp_path / f"out/{stage}/log.jsonl").read_text().splitlines()
        steps = [json.loads(line) for line in logged]
        assert len(steps) == count
        own = [line["auxiliary"] for line in steps]
        assert min(own) > 0
        assert (own == pytest.approx([line["loss"] for line in steps])) == (stage == "matching")
    assert len(Reranker(LocalScorer(model)).rank("panda", ["a bear", "a cup"])) == 2


def test_an_encoder_of_too_small_heads_is_refused_before_anything_is_mined(tmp_path):
    write_bert(tmp_path / "bert", layers=1, num_attention_heads=8)
    student = f'bi_to_cross = "{tmp_path}/bert"'
    with pytest.raises(ConfigurationError, match=r"student\.bi_to_cross: .*not 8 of 4"):
        distill(read_recipe(small_recipe(tmp_path, student=student)), tmp_path / "out")
    assert not (tmp_path / "out/prepared").exists()


def test_more_units_than_the_encoder_has_are_refused_by_name(tmp_path):
    write_bert(tmp_path / "bert", layers=1)
    student = f'convert = "{tmp_path}/bert"\nintermediate_size = 49'
    with pytest.raises(ConfigurationError, match=r"student\.intermediate_size: .*has 48 units"):
        distill(read_recipe(small_recipe(tmp_path, student=student)), tmp_path / "out")


def test_it_is_evaluated_as_deep_as_the_recipe_says(tmp_path):
    """The student's favourite comes last in the first stage, where all documents tie."""
    write_checkpoint(tmp_path / "student", seed=1)
    texts = [f"panda {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(120)]
    ranking = Reranker(LocalScorer(tmp_path / "student", dtype="float32")).rank("panda", texts)
    documents = {hit.text: hit.text for hit in reversed(ranking.hits)}
    favourite = ranking.hits[0].text
    collection = Collection("pandas", {"q": "panda"}, documents, {"q": {favourite: 1}})
    write_beir(tmp_path / "pandas", collection)
    recipe = small_recipe(
        tmp_path,
        training='steps = 1\ndtype = "float32"\nlearning_rate = 1e-12',
        evaluation=f'collections = ["{tmp_path}/pandas"]\ndepth = 120',
    )
    distill(read_recipe(recipe), tmp_path / "out")
    figures = json.loads((tmp_path / "out/evaluated.jsonl").read_text())["ndcg@10"]["pandas"]
    assert figures == {"first-stage": 0.0, "student": 1.0}
