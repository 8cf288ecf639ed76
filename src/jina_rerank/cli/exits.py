"""How a command ends that cannot do what was asked."""

from __future__ import annotations

from typing import NoReturn

import typer

from ..errors import RerankError
from .wording import shell_words

FAILED, BAD_USAGE = 1, 2


def fail(error: RerankError, status: int) -> NoReturn:
    """Say why on standard error, and leave with the status."""
    typer.echo(f"jina-rerank: {shell_words(error)}", err=True)
    raise typer.Exit(status)
