"""Judgements: what is a heading, what a grade, and what is said of documents that are missing."""

import json
import logging
import re
import sys
from pathlib import Path

import ir_measures
import pytest
from judged import COLLECTION, FOUND, write_beir
from typer.testing import CliRunner

from jina_rerank import Bm25Scorer, InputError, Reranker
from jina_rerank.cli.app import app
from jina_rerank.evaluation import (
    Collection,
    RerankerSystem,
    bm25,
    evaluate,
    measure,
    read_beir,
    read_run,
)
from jina_rerank.evaluation.reports import Summary, evaluation_html, read_summary, summary_markdown
from jina_rerank.evaluation.suites import run_suite

HEADINGS = [
    "query-id\tcorpus-id\tscore",
    "query_id\tdoc_id\trelevance",
    "QueryId\tDocNo\tRel",
    "qid\tpid\tlabel",
    "Query ID\tDocument ID\tGrade",
]


def judged_by(folder: Path, *lines: str) -> Collection:
    write_beir(folder)
    (folder / "qrels" / "test.tsv").write_text("".join(f"{line}\n" for line in lines))
    return read_beir(folder)


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_heading_is_left_out_whatever_its_columns_are_called(
    tmp_path: Path, heading: str
) -> None:
    assert judged_by(tmp_path, heading, "q1\tparis\t2").qrels == {"q1": {"paris": 2}}


@pytest.mark.parametrize("gap", ["", "\n \n"])
def test_a_first_line_with_a_grade_is_a_judgement(tmp_path: Path, gap: str) -> None:
    collection = judged_by(tmp_path, f"{gap}q2\tbread\t+1", "q1\tlyon\t-1", "q1\tparis\t 2 ")
    assert collection.qrels == {"q1": {"lyon": -1, "paris": 2}, "q2": {"bread": 1}}


@pytest.mark.parametrize(
    "grade",
    [
        "",
        " ",
        "good",
        "relevant",
        "yes",
        "n/a",
        "-",
        "1.0",
        "1_0",
        "\u0661",
        "0x1",
        "\u00bd",
        "9" * 5000,
    ],
)
@pytest.mark.parametrize("line", [1, 2])
def test_a_line_without_a_grade_is_an_error_and_no_heading(
    tmp_path: Path, grade: str, line: int
) -> None:
    lines = ["q1\tlyon\t1"] * (line - 1) + [f"q1\tparis\t{grade}", "q2\tbread\t1"]
    with pytest.raises(InputError, match=rf"test\.tsv:{line}: has the grade .* no whole number"):
        judged_by(tmp_path, *lines)


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("q1\tparis\tscore", "a heading is query-id, corpus-id and score"),
        ("query-id\tcorpus-id\t", "a heading is query-id, corpus-id and score"),
        ("Frage\tDokument\tNote", "a heading is query-id, corpus-id and score"),
        ("score\tquery-id\tcorpus-id", "a heading is query-id, corpus-id and score"),
        ("\tparis\t1", "test.tsv:1: lacks an identifier"),
        ("q1\t\t1", "test.tsv:1: lacks an identifier"),
        ("q1\t \t1", "test.tsv:1: lacks an identifier"),
        ("q1 0 paris 1", "test.tsv:1: must be query id, document id and grade"),
        ("q1\t0\tparis\t1", "test.tsv:1: must be query id, document id and grade"),
    ],
)
def test_a_first_line_that_is_neither(tmp_path: Path, first: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        judged_by(tmp_path, first, "q2\tbread\t1")


def test_a_heading_in_the_middle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test\.tsv:2: has the grade 'score'"):
        judged_by(tmp_path, "q1\tparis\t1", HEADINGS[0])


@pytest.mark.parametrize("title", [["a"], [], {"en": "a"}, {}, 7, 0, True, False])
@pytest.mark.parametrize("file", ["corpus", "queries"])
def test_a_title_is_text_or_nothing(tmp_path: Path, title: object, file: str) -> None:
    folder = write_beir(tmp_path)
    with (folder / f"{file}.jsonl").open("a") as lines:
        lines.write(json.dumps({"_id": "new", "title": title, "text": "x"}) + "\n")
    with pytest.raises(InputError, match=r"jsonl:\d: must have a string under 'title'"):
        read_beir(folder)


def test_judged_documents_that_are_missing_are_counted_and_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_beir(tmp_path / "places")
    with (folder / "qrels" / "test.tsv").open("a") as lines:
        lines.write("q1\tmarseille\t1\nq2\tmill\t0\nq3\tmarseille\t2\n")
    collection = read_beir(folder)
    assert collection.missing_documents == ["marseille", "mill"]
    assert COLLECTION.missing_documents == []
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate(collection, FOUND, [])
    assert "places: 2 judged documents are missing, 'marseille' is the first" in caplog.text
    summary = Summary.of(evaluation)
    assert summary.missing_documents == 2
    for report in (summary_markdown(summary), evaluation_html(evaluation, summary)):
        assert "judged documents that are missing: 2" in report
    figures = tmp_path / "figures.json"
    done = CliRunner().invoke(app, ["eval", str(folder), "-m", "bm25", "--json", str(figures)])
    assert done.exit_code == 0
    assert "judged documents that are missing: 2" in done.stdout
    assert read_summary(figures).missing_documents == 2


def test_missing_documents_count_as_in_trec_eval(tmp_path: Path) -> None:
    """trec_eval knows no collection: a judged document that is not ranked is one not found."""
    qrels = {query: dict(grades) for query, grades in COLLECTION.qrels.items()}
    qrels["q2"]["mill"] = 2
    collection = read_beir(
        write_beir(tmp_path, Collection("c", COLLECTION.queries, COLLECTION.documents, qrels))
    )
    names = ("nDCG@10", "AP", "R@10")
    means = evaluate(collection, FOUND, [], measures=names).first_stage.measured.means
    theirs = ir_measures.calc_aggregate(map(ir_measures.parse_measure, names), qrels, FOUND)
    assert means == pytest.approx({str(name): value for name, value in theirs.items()})
    assert means["R@10"] < 1


def test_nothing_is_said_where_nothing_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    report = summary_markdown(Summary.of(evaluate(COLLECTION, FOUND, [])))
    assert "missing" not in report
    assert "own id" not in report
    assert caplog.records == []


DUPLICATES = Collection(
    "duplicates",
    {"a": "how is bread baked", "b": "bread from flour", "q": "bread"},
    {
        "a": "how is bread baked",
        "b": "bread from flour",
        "c": "bread is baked from flour",
        "d": "an oven bakes bread",
        "e": "the sea is salty",
    },
    {"a": {"c": 1, "d": 1}, "b": {"c": 2, "b": 1}, "q": {"a": 1}},
)
"""Queries that are documents too, as in Quora; one was judged to answer itself."""


def as_beir(run: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """BEIR's `ignore_identical_ids`: results lose the query's own id, judgements do not."""
    return {
        query: {document: score for document, score in found.items() if document != query}
        for query, found in run.items()
    }


@pytest.mark.parametrize("depth", [1, 2, 100])
def test_a_document_with_the_querys_own_id_is_left_out_as_beir_does(depth: int) -> None:
    whole = bm25(DUPLICATES, 100)
    assert next(iter(whole["a"])) == "a"
    found = bm25(DUPLICATES, depth, ignore_identical_ids=True)
    without = {query: dict(list(one.items())[:depth]) for query, one in as_beir(whole).items()}
    # trec_eval orders ties by document id, and we by rank.
    ranked = {query: {d: -i for i, d in enumerate(one)} for query, one in without.items()}
    assert found == without, "another document takes its place"
    systems = [RerankerSystem(Reranker(Bm25Scorer(DUPLICATES.documents.values())))]
    for first_stage in (whole, found):
        evaluation = evaluate(
            DUPLICATES, first_stage, systems, depth=depth, ignore_identical_ids=True
        )
        theirs = ir_measures.calc_aggregate(
            [ir_measures.parse_measure(name) for name in evaluation.measures],
            DUPLICATES.qrels,
            ranked,
        )
        for result in evaluation.results:
            assert result.run == without
            assert result.measured.means == pytest.approx(
                {str(name): value for name, value in theirs.items()}
            )
    assert "without a document that has the query's own id" in summary_markdown(
        Summary.of(evaluation)
    )


def test_otherwise_it_stays(tmp_path: Path) -> None:
    found = bm25(DUPLICATES, 2)
    assert next(iter(found["a"])) == "a"
    evaluation = evaluate(DUPLICATES, found, [], measures=["nDCG@10"])
    assert (
        evaluation.first_stage.measured.means == measure(found, DUPLICATES.qrels, ["nDCG@10"]).means
    )


def test_the_option_of_the_command(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "duplicates", DUPLICATES)
    base = ["eval", str(folder), "-m", "bm25", "--depth", "2", "--output"]
    for name, options in (("with", []), ("without", ["--ignore-identical-ids"])):
        done = CliRunner().invoke(app, [*base, str(tmp_path / name), *options])
        assert done.exit_code == 0, done.stderr
    ranked = {
        name: read_run(tmp_path / name / "runs" / "bm25.trec") for name in ("with", "without")
    }
    assert "a" in ranked["with"]["a"]
    assert {query: set(found) for query, found in ranked["without"].items()} == {
        query: set(found) for query, found in bm25(DUPLICATES, 2, ignore_identical_ids=True).items()
    }
    given = tmp_path / "with" / "runs" / "first-stage.trec"
    options = ["--first-stage", str(given), "--ignore-identical-ids"]
    done = CliRunner().invoke(app, [*base, str(tmp_path / "given"), *options])
    assert done.exit_code == 0
    ranked_again = read_run(tmp_path / "given" / "runs" / "bm25.trec")
    assert all(query not in found for query, found in ranked_again.items())
    done = CliRunner().invoke(app, ["eval", "--suite", "beir", "--ignore-identical-ids"])
    assert done.exit_code == 2
    assert "--ignore-identical-ids: does not go with --suite" in done.stderr


def test_the_suite_of_beir_leaves_it_out_as_beir_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would download the other sets of BEIR.
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    write_beir(tmp_path / "quora", DUPLICATES)
    figures = run_suite("beir", [], data=tmp_path, depth=2).figures["quora"]
    found = bm25(DUPLICATES, 2, ignore_identical_ids=True)
    expected = measure(found, DUPLICATES.qrels, ["nDCG@10"]).means
    assert figures["nDCG@10"]["first-stage"] == pytest.approx(expected["nDCG@10"])
