"""Exit statuses of commands that fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from ..errors import ConfigurationError, InputError, RerankError
from .wording import shell_words

FAILED, BAD_USAGE = 1, 2


@contextmanager
def ending_at_once(*signals: signal.Signals, status: int | None = None) -> Iterator[None]:
    """End the process at these signals during the block.

    A process whose number is 1, as in a container, ignores signals without a handler. A handler
    that raises an error would leave the process waiting for its threads.

    Args:
        signals: The signals.
        status: Exit status; None for 128 and the signal's number.
    """

    def end(number: int, _: FrameType | None) -> None:
        os._exit(128 + number if status is None else status)

    before = {number: signal.signal(number, end) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
