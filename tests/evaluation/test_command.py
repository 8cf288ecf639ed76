"""`jina-rerank eval` as a person and as a pipe meet it."""

import json
import os
import platform
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from judged import FOUND, write_beir
from typer.testing import CliRunner

from jina_rerank.cli.app import app
from jina_rerank.evaluation import read_run, write_run
from jina_rerank.evaluation.reports import read_summary, summary_markdown

COFFEE = Path(__file__).parents[2] / "examples" / "data" / "coffee"


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["eval", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_the_embedded_model_on_real_questions(tmp_path: Path) -> None:
    status, out, err = run(
        COFFEE, "--queries", 5, "--depth", 10, "--max-length", 128, "--output", tmp_path
    )
    assert (status, err) == (0, "")
    assert out.startswith("coffee: 5 queries, 327 documents, ")
    assert "| mini | " in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "per_query.jsonl",
        "report.html",
        "report.md",
        "results.json",
        "runs",
        "state",
    ]
    written = (tmp_path / "report.md").read_text()
    assert written.startswith(out)
    for report in (written, (tmp_path / "report.html").read_text()):
        assert "split test, first stage BM25, depth 10, queries 5, max length 128" in report
        assert platform.machine() in report or f"{os.cpu_count()} core" in report
    summary = read_summary(tmp_path / "results.json")
    assert [row.name for row in summary.rows] == ["first-stage", "mini"]
    runs = {path.stem: read_run(path) for path in (tmp_path / "runs").iterdir()}
    assert runs.keys() == {"first-stage", "mini"}
    for query, found in runs["first-stage"].items():
        assert set(found) == set(runs["mini"][query])
        assert len(found) <= 10


def test_dtype_is_what_models_compute_in(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "places")
    scores = {}
    for dtype in ("float32", "bfloat16"):
        output = tmp_path / dtype
        status, _, err = run(folder, "--dtype", dtype, "--output", output)
        assert (status, err) == (0, "")
        assert f"dtype {dtype}" in (output / "report.md").read_text()
        scores[dtype] = read_run(next((output / "runs").glob("mini*")))
    exact, rounded = scores["float32"], scores["bfloat16"]
    assert exact != rounded
    for query, found in exact.items():
        assert rounded[query] == pytest.approx(found, abs=0.2)
    status, _, err = run(folder, "--dtype", "float64")
    assert status == 2
    assert "float64" in err


def test_everything_told(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "places")
    model = write_checkpoint(tmp_path / "model")
    write_run(FOUND, tmp_path / "first.trec", "x")
    figures = tmp_path / "results" / "places.json"
    status, out, err = run(
        folder,
        *("--model", model, "-m", "bm25", "-m", f"mix:first-stage+{model}", "-m", "bm25"),
        *("--first-stage", tmp_path / "first.trec", "--json", figures),
        *("--measure", "RR@10", "--measure", "P@1", "--max-length", 16),
        *("--long-documents", "chunk", "--split", "test", "--progress"),
    )
    assert status == 0
    summary = read_summary(figures)
    assert out == summary_markdown(summary)
    assert "3/3" in err
    assert summary.measures == ("RR@10", "P@1")
    names = [row.name for row in summary.rows]
    assert names == ["first-stage", str(model), "bm25", f"mix:first-stage+{model}"]
    assert summary.rows[0].figures["RR@10"].mean == pytest.approx(2 / 3)
    assert summary.rows[1].cost.truncated_documents == 0, "read in chunks"


def test_candidates_of_ones_own(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "places")
    candidates = tmp_path / "candidates.jsonl"
    candidates.write_text(json.dumps({"query_id": "q1", "document_ids": ["lyon", "paris"]}))
    arguments = ["--model", "bm25", "--first-stage", candidates, "--measure", "RR@10"]
    status, _, _ = run(folder, *arguments, "--output", tmp_path / "out")
    assert status == 0
    assert list(read_run(tmp_path / "out" / "runs" / "bm25.trec")["q1"]) == ["paris", "lyon"]


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["/no/such/folder"], 2, "/no/such/folder: there is no such folder"),
        (["{folder}", "--split", "dev"], 2, "dev.tsv: is missing; of splits there are test"),
        (["{folder}", "--queries", "0"], 2, "queries: must be at least 1"),
        (["{folder}", "--depth", "0"], 2, "depth: must be at least 1"),
        (["{folder}", "--first-stage", "/no/such/run"], 2, "/no/such/run: cannot be read"),
        (["{folder}", "--model", "/no/such/model"], 1, "/no/such/model: neither a folder"),
        (["{folder}", "--model", "mix:mini"], 2, "'mix:mini' must be mix:A+B"),
        (["{folder}", "--model", "bm25", "--measure", "best"], 2, "'best' is none that ir-"),
        (["{folder}", "--model", "bm25", "--measure", "nDCG@x"], 2, "'nDCG@x' is none that ir-"),
        (["{folder}", "--model", "bm25", "--measure", "P@0"], 2, "'P@0' must look at 1 to"),
        (["{folder}", "--model", "bm25", "--measure", "alpha_nDCG@5"], 2, "cannot be computed"),
        (["{folder}", "--model", ""], 2, "model: '' is blank"),
        (["{folder}", "--model", "cross-encoder:"], 2, "'cross-encoder:' lacks a name behind"),
        (["{folder}", "--model", "bi-encoder: "], 2, "model: ' ' is blank"),
        (["{folder}", "--model", "mix:1*mini+bm25"], 2, "with both weights"),
        (["{folder}", "--model", "mix:0*mini+1*bm25"], 2, "weight must be between 0 and 1"),
        (["{folder}", "--model", "remote:m@nowhere"], 2, "base_url"),
        (["{folder}", "--max-length", "1"], 2, "--max-length must be a number from 16"),
        (["{folder}", "--model", "bm25", "--dtype", "int8"], 2, "is for rerankers in torch"),
        (["{folder}", "--model", "first-stage"], 2, "is evaluated in any case; leave it out"),
        (["{folder}", "--suite", "beir", "--split", "dev"], 2, "--split: does not go with --suite"),
        (["{folder}", "--suite", "beir", "--model", "bm25"], 2, "in a mix call it first-stage"),
    ],
)
def test_errors_say_what_is_wrong_and_leave_a_status(
    tmp_path: Path, args: list[str], status: int, message: str
) -> None:
    folder = write_beir(tmp_path)
    code, out, err = run(*(arg.format(folder=folder) for arg in args))
    assert (code, out) == (status, "")
    assert message in err
    assert "Traceback" not in err
