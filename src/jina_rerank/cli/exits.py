"""How a command ends that cannot do what was asked."""

from __future__ import annotations

from typing import NoReturn

import typer

from ..errors import RerankError

FAILED, BAD_USAGE = 1, 2


def fail(error: RerankError, status: int) -> NoReturn:
    """Say why on standard error, and leave with the status."""
    typer.echo(f"jina-rerank: {error}", err=True)
    raise typer.Exit(status)
