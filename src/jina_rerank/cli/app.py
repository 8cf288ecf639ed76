"""The commands and their options; `documents` reads the input, `tables` formats the output."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from .. import __version__
from .._lines import typed_text
from ..embedded import EMBEDDED_MODEL
from ..plugin import renamed_errors
from ..ranking import Ranking
from ..reranker import Reranker
from ..scorers.base import LongDocuments
from ..scorers.device import Dtype
from ..spec import scorer_of
from .distill import distill
from .documents import STANDARD_INPUT, Document, Format, read_documents
from .evaluate import evaluate
from .exits import exit_on_error
from .mcp import mcp
from .naming import MODEL_NAMES
from .serve import serve
from .tables import models_table, ranking_table, usable_offline

ExportFormat = Literal["onnx"]

PROGRESS_FROM = 100
"""Minimum number of documents for a progress bar."""

app = typer.Typer(
    name="jina-rerank",
    help="Put the documents that answer a query first.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"jina-rerank {__version__}")  # noqa: T201 - the output
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log at level INFO.")] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


@app.command()
def rank(  # noqa: PLR0917 - typer passes them by name
    query: Annotated[str, typer.Argument(help="Text of the query.")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Text (one document per line), .jsonl, .json, .csv or .tsv, also with .gz; "
            "none or - for standard input."
        ),
    ] = None,
    top_n: Annotated[
        int | None, typer.Option("--top-n", "-n", help="Number of documents to keep; default: all.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Minimum score of the documents to keep.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"{MODEL_NAMES}; default: {EMBEDDED_MODEL}."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="A branch, tag or commit of the model on the hub.")
    ] = None,
    input_format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Format of all files; default: by name and content."),
    ] = None,
    column: Annotated[
        str, typer.Option(help="CSV column or JSON key that holds the text.")
    ] = "text",
    dtype: Annotated[
        Dtype | None, typer.Option(help="Data type of a model in torch; default: auto.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Maximum tokens of a pair; default: 8192, or the model's limit."),
    ] = None,
    long_documents: Annotated[
        LongDocuments | None,
        typer.Option(help="Treatment of documents that are too long; default: truncate."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines on a terminal too.")
    ] = False,
) -> None:
    """Rank documents by their relevance to QUERY.

    Prints a table on a terminal and JSON Lines in a pipe. Exit status: 0 success, 1 the model
    failed, 2 the input or an option is invalid, or the output cannot be written.
    """
    with exit_on_error():
        documents = read_documents(files or [STANDARD_INPUT], input_format, typed_text(column))
        scorer = scorer_of(
            model,
            dtype=dtype,
            max_length=max_length,
            long_documents=long_documents,
            revision=revision,
        )
        naming = renamed_errors(partial(_name_document, documents))
        with Reranker(scorer) as reranker, naming:
            ranking = reranker.rank(
                typed_text(query),
                [document.text for document in documents],
                top_n=top_n,
                threshold=threshold,
                progress=sys.stderr.isatty() and len(documents) >= PROGRESS_FROM,
            )
    if as_json or not sys.stdout.isatty():
        _write_json_lines(ranking, documents)
    else:
        Console().print(ranking_table(query, ranking, documents))


@app.command()
def models(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON Lines on a terminal too.")
    ] = False,
) -> None:
    """Show the models that can be used without a network."""
    found = usable_offline()
    if as_json or not sys.stdout.isatty():
        for model in found:
            print(json.dumps(model.to_dict(), ensure_ascii=False))  # noqa: T201 - the output
    else:
        Console().print(models_table(found))


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help=f"A folder or hub id; {EMBEDDED_MODEL} is the embedded model.")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder to write to: new or empty.")],
    export_format: Annotated[
        ExportFormat, typer.Option("--format", "-f", help="Format to write.")
    ] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit weights and matrix products: smaller, less exact.")
    ] = False,
) -> None:
    """Write MODEL to FOLDER for runtimes without torch, with all files that they need.

    Prints the path of the model. Exit status: 0 success, 1 the model cannot be read, 2 the folder
    or an option is invalid.
    """
    from ..onnx import export_onnx

    with exit_on_error():
        print(typed_text(export_onnx(model, folder, int8=int8)))  # noqa: T201 - the output


def _name_document(documents: Sequence[Document], argument: str) -> str:
    """Replace `documents[i]` by the place where the document was read; keep other arguments."""
    found = re.fullmatch(r"documents\[(\d+)\]", argument)
    return argument if found is None else documents[int(found[1])].place


def _write_json_lines(ranking: Ranking, documents: Sequence[Document]) -> None:
    for place, hit in enumerate(ranking, 1):
        line = {
            "rank": place,
            "score": hit.score,
            "id": documents[hit.index].id,
            "text": hit.text,
            "index": hit.index,
            "source": documents[hit.index].source,
            "tokens": hit.tokens,
            "truncated_tokens": hit.truncated_tokens,
        }
        print(json.dumps(line, ensure_ascii=False))  # noqa: T201 - the output


# Registered last: help lists commands in this order, and `rank` is used most.
app.command("eval")(evaluate)
app.command()(distill)
app.command()(serve)
app.command()(mcp)
