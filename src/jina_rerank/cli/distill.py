"""`jina-rerank distill`: train a small reranker from larger ones."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .._installed import missing
from .._lines import typed_text
from .exits import exit_on_error


def distill(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; see the documentation.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where everything goes; a run there goes on.")
    ],
    until: Annotated[
        int | None, typer.Option(help="Stop before this step of the training, for now.")
    ] = None,
) -> None:
    """Train a small reranker as RECIPE says.

    Writes the path of the model. A run that was killed goes on where it was saved. Exit status:
    0 done, 1 a teacher or the training failed, 2 the recipe or its data cannot be used.
    """
    with exit_on_error():
        try:
            from ..distillation import distill as run
            from ..distillation import read_recipe
        except ImportError as error:
            raise missing(error.name, "distilling", "distill") from error
        model = run(read_recipe(recipe), output, until=until, progress=sys.stderr.isatty())
    print(typed_text(model))  # noqa: T201 - the output
