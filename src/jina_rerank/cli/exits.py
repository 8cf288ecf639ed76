"""Exit statuses of commands that cannot do what was asked."""

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
    """End the command with a message and a status where the block raises an error of ours.

    The status is 2 where the command, its input or its set-up has to be changed, 1 where a model or
    a service failed.
    """
    try:
        yield
    except (InputError, ConfigurationError) as error:
        fail(error, BAD_USAGE)
    except RerankError as error:
        fail(error, FAILED)


def fail(error: RerankError, status: int) -> NoReturn:
    """Say why on standard error, and leave with the status."""
    typer.echo(f"jina-rerank: {shell_words(error)}", err=True)
    raise typer.Exit(status)
