"""Exit statuses of commands that fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from ..errors import ConfigurationError, InputError, RerankError
from .wording import shell_words

FAILED, BAD_USAGE = 1, 2


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the command with a message and a status if the block raises a `RerankError`.

    The status is 2 if the command, its input or its configuration has to be changed, and 1 if a
    model or a service failed.
    """
    try:
        yield
    except (InputError, ConfigurationError) as error:
        fail(error, BAD_USAGE)
    except RerankError as error:
        fail(error, FAILED)


def fail(error: RerankError, status: int) -> NoReturn:
    """Write the error to standard error, and exit with the status."""
    typer.echo(f"jina-rerank: {shell_words(error)}", err=True)
    raise typer.Exit(status)
