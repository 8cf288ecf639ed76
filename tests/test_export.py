"""The command that exports, as a person and as a script meet it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from families import write_reranker
from tokenizers import Tokenizer
from typer.testing import CliRunner

from jina_rerank import LocalScorer, OnnxScorer, Reranker
from jina_rerank.cli.app import app
from jina_rerank.encoders import JinaBert
from jina_rerank.encoders.checkpoint import save_checkpoint

QUERY = "what is panda?"
DOCUMENTS = ["a bear", "the capital of france is paris", "coffee " * 40]


def run(*args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["export", *args])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("options", [[], ["--format", "onnx"]])
def test_what_is_exported_scores_as_the_original(
    small_checkpoint: Path, tmp_path: Path, options: list[str]
) -> None:
    folder = tmp_path / "new"
    assert run(str(small_checkpoint), str(folder), *options) == (
        0,
        f"{folder / 'model.onnx'}\n",
        "",
    )
    expected = Reranker(LocalScorer(small_checkpoint, dtype="float32")).score(QUERY, DOCUMENTS)
    assert Reranker(OnnxScorer(folder)).score(QUERY, DOCUMENTS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert"])
def test_an_export_of_another_family_scores_as_the_original(tmp_path: Path, family: str) -> None:
    original, folder = tmp_path / "original", tmp_path / "new"
    write_reranker(original, family)
    (original / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 60}))
    assert run(str(original), str(folder))[0] == 0
    documents = [*DOCUMENTS, "paris coffee " * 90]
    expected = Reranker(LocalScorer(original, dtype="float32")).rank(QUERY, documents)
    found = Reranker(OnnxScorer(folder)).rank(QUERY, documents)
    assert [hit.index for hit in found] == [hit.index for hit in expected]
    assert [hit.logit for hit in found] == pytest.approx([hit.logit for hit in expected], abs=1e-4)
    cut = [hit.truncated_tokens for hit in found]
    assert cut == [hit.truncated_tokens for hit in expected]
    assert any(cut), "the tokenizer's limit is exported too"


def test_transformers_js_knows_the_type_of_a_model_of_ours(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.from_file(str(small_checkpoint / "tokenizer.json"))
    save_checkpoint(JinaBert.from_pretrained(small_checkpoint), tokenizer, tmp_path / "ours")
    own, exported = (tmp_path / folder / "config.json" for folder in ("ours", "new"))
    assert json.loads(own.read_text())["model_type"] == "jina_bert_reranker"
    assert run(str(own.parent), str(exported.parent))[0] == 0
    assert json.loads(exported.read_text())["model_type"] == "bert"


def test_the_embedded_model_in_8_bits(tmp_path: Path) -> None:
    status, shown, err = run("jina-rerank-mini", str(tmp_path), "--int8")
    assert (status, err) == (0, "")
    assert Path(shown.strip()).stat().st_size < 40_000_000
    ranking = Reranker(OnnxScorer(tmp_path)).rank(
        "What is the capital of France?",
        ["Berlin is the capital of Germany.", "Bread is baked.", "Paris is the capital of France."],
    )
    assert ranking[0].index == 2


def test_errors_leave_a_status(small_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    status, shown, err = run(str(small_checkpoint), str(tmp_path))
    assert (status, shown) == (2, "")
    assert f"folder: {tmp_path} is not empty" in err
    status, shown, err = run("/no/such/model", str(tmp_path / "new"))
    assert (status, shown) == (1, "")
    assert "/no/such/model: neither a folder" in err
    assert run(str(small_checkpoint), str(tmp_path / "new"), "--format", "gguf")[0] == 2
    status, shown, err = run("", str(tmp_path / "new"))
    assert (status, shown) == (2, "")
    assert "model: '' is blank" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_without_its_library_it_says_what_to_install(
    small_checkpoint: Path, tmp_path: Path
) -> None:
    script = "import sys; sys.modules['onnx'] = None; from jina_rerank.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "export", str(small_checkpoint), str(tmp_path / "new")],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().endswith('pip install "jina-rerank[export]"')
