"""`jina-rerank eval --suite`: repeat the measurements of Jina's announcement."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import typer
from rich.console import Console

from .._lines import typed_text
from .._output import writing
from .._terminal import plain
from ..errors import ConfigurationError, InputError
from ..evaluation.spelling import Speller
from ..evaluation.suites import (
    SUITES,
    SuiteResult,
    run_rag_suite,
    run_suite,
    suite_markdown,
    suite_tables,
    write_suite,
)
from ..evaluation.suites.run import RAG_TOP_N
from ..evaluation.systems import RerankerSystem, parts_of
from ..scorers.base import LongDocuments
from ..spec import BM25, NEED_COLLECTION, parse

SuiteName: TypeAlias = Literal["beir", "loco", "llamaindex-rag"]
"""Values of `--suite`."""


def evaluate_suite(
    name: SuiteName,
    data: Path | None,
    models: Sequence[str],
    embeddings: Sequence[str],
    *,
    max_length: int | None,
    long_documents: LongDocuments | None,
    depth: int | None,
    queries: int | None,
    output: Path | None,
    progress: bool,
) -> None:
    """Run a suite, write its files and print its figures beside the published ones.

    Args:
        name: The suite's name.
        data: The folder with the suite's sets.
        models: Names of models, as on the command line.
        embeddings: Names of embedding models, for retrieval.
        max_length: Maximum tokens of a pair; None for each model's default.
        long_documents: Treatment of longer documents; None for each model's default.
        depth: Number of documents to rerank; None for the suite's default.
        queries: Number of queries of each set to take; None takes all.
        output: A folder for the suite's files.
        progress: True to show progress bars.

    Raises:
        InputError: An option conflicts with the suite, there is no data, or `output` cannot be
            written.
        ConfigurationError: A model cannot be used with the suite.
        RerankError: The suite's errors.
    """
    systems = Speller({}, max_length, long_documents).build_all(models)
    parts = [part for system in systems for part in parts_of(system)]
    if any(part.name == BM25 for part in parts):
        raise ConfigurationError(
            "bm25 is the first stage, which every suite has; in a mix call it first-stage"
        )
    if output is not None:
        # An output that cannot be written must fail before hours are spent.
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)
    if SUITES[name].sets:
        if embeddings:
            raise InputError("--embedding", f"does not go with --suite {name}, which has BM25")
        result = run_suite(
            name,
            systems,
            data=data,
            depth=100 if depth is None else depth,
            queries=queries,
            state=None if output is None else output / "state",
            progress=progress,
        )
    else:
        if data is None:
            raise InputError("COLLECTION", "is missing: a folder with LlamaIndex datasets")
        if not embeddings:
            raise InputError("--embedding", "is missing: a folder or hub id, again for more")
        candidates = _check_candidates(10 if depth is None else depth, name)
        rerankers = {}
        for system in systems:
            if not isinstance(system, RerankerSystem) or _searches(system.name):
                raise ConfigurationError(
                    f"{system.name} is no reranker, which --suite {name} takes"
                )
            rerankers[system.name] = system.reranker
        result = run_rag_suite(data, embeddings, rerankers, queries=queries, candidates=candidates)
    if output is not None:
        write_suite(result, output)
    _print(result, None if output is None else output / f"{name}.md")


def _searches(model: str) -> bool:
    """Return True for a model that is used in a first stage."""
    return parse(model).kind in NEED_COLLECTION


def _check_candidates(depth: int, suite: SuiteName) -> int:
    if depth < RAG_TOP_N:
        problem = f"must be at least {RAG_TOP_N}, which are kept, with --suite {suite}"
        raise InputError("--depth", f"{problem}, not {depth}")
    return depth


def _print(result: SuiteResult, report: Path | None) -> None:
    if not sys.stdout.isatty():
        print(suite_markdown(result), end="")  # noqa: T201 - the output
        return
    from ..evaluation.reports.table import terminal_table

    means, sets = suite_tables(result)
    console = Console()
    console.print(plain(f"{result.suite.title}: {result.setting}. Figures times 100."))
    console.print(terminal_table(means), plain(result.suite.note), terminal_table(sets))
    for name, reason in result.missing.items():
        console.print(plain(f"not measured: {name}: {reason}"))
    if report is not None:
        typer.echo(f"report: {typed_text(report)}")
