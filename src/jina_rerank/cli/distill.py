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
    recipe: Annotated[Path, typer.Argument(help="Recipe in TOML; see the documentation.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Output folder; a run in it is resumed.")
    ],
    until: Annotated[
        int | None, typer.Option(help="Stop before this training step, to resume later.")
    ] = None,
) -> None:
    """Train a small reranker according to RECIPE.

    Prints the path of the model. The same command resumes a killed run from its last saved state.
    Exit status: 0 success, 1 a teacher or the training failed, 2 the recipe or its data is invalid.
    """
    with exit_on_error():
        try:
            from ..distillation import distill as run
            from ..distillation import read_recipe
        except ImportError as error:
            raise missing(error.name, "distilling", "distill") from error
        model = run(read_recipe(recipe), output, until=until, progress=sys.stderr.isatty())
    print(typed_text(model))  # noqa: T201 - the output
