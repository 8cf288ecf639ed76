"""`jina-rerank eval --suite` as a pipe meets it."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jina_rerank.cli.app import app

COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"


@pytest.fixture(autouse=True)
def _without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["eval", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_a_suite_on_what_is_there(tmp_path: Path) -> None:
    shutil.copytree(COFFEE, tmp_path / "data" / "nfcorpus")
    output = tmp_path / "out"
    status, out, err = run(
        tmp_path / "data", "--suite", "beir", "--model", "mini", "--queries", 4, "--depth", 5,
        "--output", output,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "nDCG@10, 1 of 17 sets" in out
    assert "49.60" in out
    assert out == (output / "beir.md").read_text()
    figures = json.loads((output / "beir.json").read_text())["sets"]["nfcorpus"]["nDCG@10"]
    assert list(figures) == ["first-stage", "mini"]
    assert (output / "state").is_dir()


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--suite", "loco"], 2, "no set that can be had"),
        (["absent", "--suite", "loco"], 2, "absent: is no folder"),
        (["--suite", "beir", "--embedding", "x"], 2, "--embedding: does not go with"),
        (["--suite", "beir", "--json", "x.json"], 2, "--json: does not go with --suite"),
        (["--suite", "beir", "--measure", "AP"], 2, "--measure: does not go with --suite"),
        (["--suite", "beir", "--model", "mix:bm25+mini"], 2, "call it first-stage"),
        (["--suite", "llamaindex-rag", "--embedding", "x"], 2, "COLLECTION: is missing"),
        ([str(COFFEE), "--suite", "llamaindex-rag"], 2, "--embedding: is missing"),
        (
            [str(COFFEE), "--suite", "llamaindex-rag", "--embedding", "x", "-m", "bi-encoder:y"],
            2,
            "bi-encoder:y is no reranker",
        ),
        ([], 2, "COLLECTION is missing"),
        ([str(COFFEE), "--embedding", "x"], 2, "--embedding is for --suite"),
    ],
)
def test_what_does_not_go_together(args: list[str], status: int, message: str) -> None:
    code, out, err = run(*args)
    assert (code, out) == (status, "")
    assert message in err
