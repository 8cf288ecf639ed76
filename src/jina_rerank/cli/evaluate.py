"""`jina-rerank eval`: compare rerankers on judged queries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .._lines import typed_text
from .._output import write_text, writing
from ..errors import InputError
from ..evaluation import (
    DEFAULT_MEASURES,
    WANTED_PRECISION,
    Collection,
    Evaluation,
    MixedSystem,
    System,
    bm25,
    load_collection,
    read_first_stage,
    write_run,
)
from ..evaluation import evaluate as evaluate_systems
from ..evaluation.evaluate import file_name
from ..evaluation.first_stage import check_identifiers
from ..evaluation.reports import (
    Summary,
    evaluation_html,
    summary_markdown,
    write_per_query,
    write_summary,
)
from ..evaluation.reports.table import summary_table
from ..evaluation.reports.words import conditions
from ..evaluation.spelling import Speller
from ..evaluation.thresholds import check_precision
from ..scorers.base import LongDocuments
from ..scorers.device import Dtype
from .exits import exit_on_error
from .naming import MODEL_NAMES
from .suite import SuiteName, evaluate_suite

RUNS = "runs"
REPORT = "report.html"


def evaluate(  # noqa: PLR0917 - typer passes them by name
    collection: Annotated[
        str | None,
        typer.Argument(
            help="A folder in BEIR layout, or a name such as beir/scifact/test; with --suite, the "
            "folder with the suite's data sets."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help=f"{MODEL_NAMES}, bi-encoder:NAME, sparse-encoder:NAME, bm25, mix:A+B; "
            "repeatable. Default: mini.",
        ),
    ] = None,
    first_stage: Annotated[
        Path | None,
        typer.Option(help="A TREC run, or candidates as .jsonl; default: computed by BM25."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Number of candidates to rerank; default: 100, llamaindex-rag: 10."),
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="Number of queries to use, evenly spread; default: all.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a folder's judgements; default: test.")
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option("--measure", help="A measure, as ir-measures names it; repeatable."),
    ] = None,
    thresholds: Annotated[
        bool,
        typer.Option(
            "--thresholds",
            "--threshold",
            help="Show the effect of score thresholds, and suggest one for --precision.",
        ),
    ] = False,
    precision: Annotated[
        float | None,
        typer.Option(
            help="Precision that the suggested threshold must reach; implies --thresholds; "
            f"default: {WANTED_PRECISION}."
        ),
    ] = None,
    ignore_identical_ids: Annotated[
        bool,
        typer.Option(
            "--ignore-identical-ids",
            help="Leave out a document whose id is the query's, as BEIR does.",
        ),
    ] = False,
    max_length: Annotated[
        int | None,
        typer.Option(help="Maximum tokens of a pair, for models on this machine; default: 8192."),
    ] = None,
    long_documents: Annotated[
        LongDocuments | None,
        typer.Option(
            help="Treatment of documents that are too long, on this machine; default: truncate."
        ),
    ] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="Data type of rerankers in torch; default: auto.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for reports and runs; an evaluation in it is resumed."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the results to this file, as JSON.")
    ] = None,
    suite: Annotated[
        SuiteName | None,
        typer.Option(
            help="Repeat a benchmark of Jina's announcement, beside its published figures."
        ),
    ] = None,
    embeddings: Annotated[
        list[str] | None,
        typer.Option(
            "--embedding",
            help="For --suite llamaindex-rag: an embedding model, a folder or hub id; repeatable.",
        ),
    ] = None,
    progress: Annotated[
        bool, typer.Option("--progress", help="Show progress even without a terminal.")
    ] = False,
) -> None:
    """Evaluate rerankers on COLLECTION, and compare them with the first stage.

    Prints a table on a terminal and Markdown in a pipe. Exit status: 0 success, 1 a model failed,
    2 the collection or an option is invalid.
    """
    names = list(dict.fromkeys(models or ["mini"]))
    show = progress or sys.stderr.isatty()
    with exit_on_error():
        if suite is not None:
            _refuse_with_suite(
                first_stage=first_stage,
                split=split,
                measure=measures,
                thresholds=thresholds,
                precision=precision,
                ignore_identical_ids=ignore_identical_ids,
                json=json_file,
                dtype=dtype,
            )
            evaluate_suite(
                suite,
                None if collection is None else Path(collection),
                names,
                embeddings or [],
                max_length=max_length,
                long_documents=long_documents,
                depth=depth,
                queries=queries,
                output=output,
                progress=show,
            )
            return
        if collection is None or embeddings:
            wrong = "COLLECTION is missing" if collection is None else "--embedding is for --suite"
            raise InputError("eval", f"{wrong}; see jina-rerank eval --help")
        precision = _wanted_precision(thresholds, precision)
        depth = 100 if depth is None else depth
        split = split or "test"
        judged = load_collection(collection, split=split)
        if queries is not None:
            judged = judged.take(queries)
        systems = Speller(judged.documents, max_length, long_documents, dtype).build_all(names)
        if precision is not None:
            _check_thresholds(judged, systems)
        if first_stage is None:
            found = bm25(judged, depth, ignore_identical_ids=ignore_identical_ids)
        else:
            found = read_first_stage(first_stage)
        _check_outputs(judged, output, json_file)
        evaluation = evaluate_systems(
            judged,
            found,
            systems,
            depth=depth,
            measures=measures or DEFAULT_MEASURES,
            ignore_identical_ids=ignore_identical_ids,
            state=None if output is None else output / "state",
            progress=show,
        )
        summary = Summary.of(
            evaluation,
            {
                "split": split,
                "first stage": "BM25" if first_stage is None else str(first_stage),
                "depth": str(depth),
                "queries": "all" if queries is None else str(queries),
                "max length": "the models' own" if max_length is None else str(max_length),
                "long documents": long_documents or "truncate",
                "dtype": dtype or "auto",
            },
            precision=precision,
        )
        try:
            if json_file is not None:
                with writing(json_file):
                    write_summary(summary, json_file)
            if output is not None:
                with writing(output):
                    write_reports(evaluation, summary, output)
        finally:  # a file that cannot be written does not cost the figures
            _print(summary)
    # In a pipe the output is the report itself, without further lines.
    if output is not None and sys.stdout.isatty():
        typer.echo(f"report: {typed_text(output / REPORT)}")


def _print(summary: Summary) -> None:
    if sys.stdout.isatty():
        Console().print(summary_table(summary))
    else:
        print(summary_markdown(summary), end="")  # noqa: T201 - the output


def _check_outputs(judged: Collection, output: Path | None, json_file: Path | None) -> None:
    """Check that the output files can be written, before hours are spent."""
    if json_file is not None:
        if json_file.is_dir():
            raise InputError("--json", f"{json_file} is a folder; name a file")
        with writing(json_file):
            json_file.parent.mkdir(parents=True, exist_ok=True)
            is_new = not json_file.exists()
            json_file.open("a").close()
            if is_new:  # or an evaluation that fails would leave an empty file
                json_file.unlink()
    if output is not None:
        check_identifiers([*judged.queries, *judged.documents], output / RUNS)


def _wanted_precision(thresholds: bool, precision: float | None) -> float | None:
    """Return the precision for which to choose thresholds; None for no thresholds."""
    if precision is None:
        return WANTED_PRECISION if thresholds else None
    return check_precision(precision)


def _check_thresholds(judged: Collection, systems: Sequence[System | MixedSystem]) -> None:
    """Check that the evaluation can have thresholds, before hours are spent."""
    if all(isinstance(system, MixedSystem) for system in systems):
        raise InputError(
            "--thresholds", "a mix has none; name a --model whose scores are not mixed"
        )
    if not any(grade > 0 for grades in judged.qrels.values() for grade in grades.values()):
        raise InputError("--thresholds", f"{judged.name} has no relevant document to keep")


def _refuse_with_suite(**options: object) -> None:
    for name, value in options.items():
        if value:
            raise InputError(f"--{name.replace('_', '-')}", "does not go with --suite")


def write_reports(evaluation: Evaluation, summary: Summary, folder: Path) -> None:
    """Write report.html, report.md, results.json, per_query.jsonl and runs/ into a folder."""
    runs = folder / RUNS
    runs.mkdir(parents=True, exist_ok=True)
    write_summary(summary, folder / "results.json")
    write_per_query(evaluation, folder / "per_query.jsonl")
    write_text(folder / "report.md", f"{summary_markdown(summary)}\n{conditions(summary)}\n")
    write_text(folder / REPORT, evaluation_html(evaluation, summary))
    for result in evaluation.results:
        write_run(result.run, runs / f"{file_name(result.name)}.trec", result.name)
