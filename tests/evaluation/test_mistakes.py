"""Mistakes of people with `jina-rerank eval`, and failures of machines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from full_disk import full_beyond
from judged import COLLECTION, FOUND, write_beir
from typer.testing import CliRunner

from jina_rerank import ConfigurationError, InputError, Reranker
from jina_rerank._output import held
from jina_rerank.cli.app import app
from jina_rerank.evaluation import (
    Collection,
    MixedSystem,
    RerankerSystem,
    bm25,
    evaluate,
    measure,
    read_beir,
    read_run,
)
from jina_rerank.testing import FakeScorer


def run(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["eval", *map(str, args), "--model", "bm25"])
    return result.exit_code, result.stdout, result.stderr


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def cut_off(folder: Path) -> None:
    corpus = folder / "corpus.jsonl"
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(corpus.read_bytes())[:-9])
    corpus.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (write("qrels/test.tsv", ""), "test.tsv: has no judgements"),
        (write("qrels/test.tsv", "q1\tnowhere\t1\n"), "test.tsv:1: judges a document that corpus"),
        (write("qrels/test.tsv", "q1\tparis\t1,0\n"), "test.tsv:1: has the grade '1,0'"),
        (write("qrels/test.tsv", "q1\tparis\t1.0\n"), "test.tsv:1: has the grade '1.0'"),
        (write("qrels/test.tsv", f"q1\tparis\t{2**31}\n"), "test.tsv:1: has the grade 2147"),
        (write("qrels/test.tsv", f"q1\tparis\t{-(10**30)}\n"), "which must be 10,000 at most"),
        (write("corpus.jsonl", '{"_id": "paris", "text": ""}'), "has no documents for any query"),
        (write("corpus.jsonl", '{"_id": "paris", "text": "of the"}'), "has no documents for any"),
        (write("corpus.jsonl", '{"_id": "\\ud800", "text": "x"}'), "corpus.jsonl:1: _id: holds a"),
        (write("queries.jsonl", "[" * 100_000), "queries.jsonl:1: is not JSON"),
        (cut_off, "corpus.jsonl.gz: cannot be read: Compressed file ended before"),
    ],
)
def test_a_collection_that_cannot_be_used(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    folder = write_beir(tmp_path / "places")
    spoil(folder)
    status, out, err = run(folder)
    assert (status, out) == (2, "")
    assert said in err


def test_byte_order_marks_and_windows_line_ends(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "places")
    for path in (folder / "corpus.jsonl", folder / "queries.jsonl", folder / "qrels" / "test.tsv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_beir(folder) == COLLECTION


def test_documents_without_a_word_are_never_found() -> None:
    wordless = Collection("places", {"q": "paris"}, {"a": "", "b": "the of"}, {"q": {"a": 1}})
    assert bm25(wordless) == {"q": {}}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nDCG@0", "'nDCG@0' must look at 1 to 1,000,000 documents"),
        ("P@99999999999999999999", "must look at 1 to"),
        ("P", "'P' is none that ir-measures knows"),
        ("nDCG@10.5", "'nDCG@10.5' is none"),
        ("NERR8@10", "'NERR8@10' is none"),
        ("Accuracy", "measures: Accuracy cannot be computed here"),
    ],
)
def test_a_measure_that_cannot_be_computed(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        measure({"q1": {"paris": 1.0}}, {"q1": {"paris": 1}}, [name])


def test_a_measure_that_cannot_be_computed_is_told_before_models_are_asked() -> None:
    scorer = FakeScorer()
    found = {query: dict(list(scores.items())[:1]) for query, scores in FOUND.items()}
    only = Collection("one", COLLECTION.queries, COLLECTION.documents, {"q1": {"berlin": 1}})
    with pytest.raises(ConfigurationError, match="Accuracy cannot be computed here"):
        evaluate(only, found, [RerankerSystem(Reranker(scorer))], measures=["Accuracy"])
    assert scorer.requests == []


def test_measures_above_one_have_a_report(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "places")
    status, _, err = run(folder, "--measure", "NumRet", "--output", tmp_path / "out")
    assert (status, err) == (0, "")
    assert ">3.00</text>" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("score", ["nan", "inf", "-1e39"])
def test_a_score_that_trec_eval_cannot_hold(tmp_path: Path, score: str) -> None:
    (tmp_path / "run.trec").write_text(f"q1 Q0 paris 1 {score} x\n")
    with pytest.raises(InputError, match=r"run\.trec:1: has the score"):
        read_run(tmp_path / "run.trec")


def test_two_models_of_one_name_in_different_mixes() -> None:
    """Else one of them would be asked, and its answer taken for the other's."""
    one, other = (
        RerankerSystem(Reranker(FakeScorer(fingerprint=said)), name="fake") for said in ("a", "b")
    )
    first, second = (MixedSystem(name, part, part) for name, part in (("x", one), ("y", other)))
    with pytest.raises(ConfigurationError, match="two systems are called 'fake'"):
        evaluate(COLLECTION, FOUND, [first, second])
    with pytest.raises(ConfigurationError, match="two systems are called 'fake'"):
        evaluate(COLLECTION, FOUND, [MixedSystem("fake", one, one)])
    assert evaluate(COLLECTION, FOUND, [one, first]).result("x").cost.pairs == 8


def blanks(folder: Path) -> None:
    write("corpus.jsonl", '{"_id": "the paris", "text": "a capital"}')(folder)
    write("qrels/test.tsv", "q1\tthe paris\t1\n")(folder)


@pytest.mark.parametrize(
    ("prepare", "args", "said"),
    [
        (blanks, ["--output", "{out}"], "cannot hold the identifier 'the paris'"),
        (write("file", ""), ["--output", "{folder}/file"], "file/state: cannot be written"),
        (write("file", ""), ["--json", "{folder}/file/x"], "file: cannot be written"),
        (write("file", ""), ["--json", "{folder}"], "is a folder; name a file"),
        (write("file", ""), ["--json", "/proc/x.json"], "/proc/x.json: cannot be written"),
    ],
)
def test_an_output_that_cannot_be_written(
    tmp_path: Path, prepare: Callable[[Path], object], args: list[str], said: str
) -> None:
    folder = write_beir(tmp_path / "places")
    prepare(folder)
    status, out, err = run(folder, *(a.format(folder=folder, out=tmp_path / "out") for a in args))
    assert (status, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_a_report_that_cannot_be_written_does_not_cost_the_table(tmp_path: Path, name: str) -> None:
    folder = write_beir(tmp_path / "places")
    (folder / "out" / name).mkdir(parents=True)
    status, out, err = run(folder, "--output", folder / "out")
    assert status == 2
    assert f"{name}: cannot be written: Is a directory" in err
    assert "| bm25 |" in out


def test_an_evaluation_that_fails_leaves_no_empty_file_and_no_shorter_one(tmp_path: Path) -> None:
    folder, new, old = write_beir(tmp_path / "places"), tmp_path / "new", tmp_path / "old"
    old.write_text("kept")
    for path in (new, old):
        status, _, _ = run(folder, "--measure", "Accuracy", "--json", path)
        assert status == 2
    assert not new.exists()
    assert old.read_text() == "kept"


def test_an_output_of_a_suite_that_cannot_be_written_is_told_before_it_is_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    args = ["eval", str(tmp_path / "absent"), "--suite", "beir", "-o", str(tmp_path / "file")]
    result = CliRunner().invoke(app, args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{tmp_path / 'file'}: cannot be written" in result.stderr


def test_a_full_disk(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "places")
    out = tmp_path / "out"
    with full_beyond(1000):
        status, _, err = run(folder, "--output", out)
    assert status == 2
    assert f"{out}: cannot be written: File too large" in err


def test_a_folder_takes_one_run_at_a_time(tmp_path: Path) -> None:
    folder, out = write_beir(tmp_path / "places"), tmp_path / "out"
    with held(out / "state"):
        status, _, err = run(folder, "--output", out)
    assert status == 2
    assert "state: another run is writing there" in err
    assert run(folder, "--output", out)[0] == 0
    assert len(json.loads((out / "results.json").read_text())["rows"]) == 2
