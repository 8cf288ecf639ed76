"""The standard streams of the command: UTF-8 in every locale, and an orderly end without them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CLOSED_PIPE = 141
"""Exit status when the reader of a pipe has gone: 128 and the number of SIGPIPE."""

LOST_OUTPUT = 2
"""As where a file cannot be written."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """Run the command with streams that write UTF-8 and end it where output is lost.

    Where standard output cannot be written, the command ends with status 2 and says why; where
    its reader has gone, as `head` does, it ends with 141 and says nothing. Where standard error
    cannot be written, what goes there is lost and the command goes on.
    """
    _fill_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - never closed
    sys.stdout = _open(sys.stdout, 1, _end, by_line=False)
    sys.stderr = _open(sys.stderr, 2, _go_on, by_line=True)
    try:
        yield
    finally:
        # Not at the end of the process: what fails there is a message of the interpreter's own.
        sys.stdout.flush()


class _Output(io.RawIOBase):
    """A standard stream whose failure is handled once, whatever library writes to it.

    Args:
        stream: Where it goes.
        lost: Called when it cannot be written; after that, all of it goes nowhere.
    """

    def __init__(self, stream: BinaryIO, lost: Callable[[OSError], None]) -> None:
        self._stream = stream
        self._lost = lost

    def write(self, data: ReadableBuffer) -> int:
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            # So that what the stream still holds does not fail again at the end of the process.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._lost(error)
        return memoryview(data).nbytes

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()


def _open(
    stream: TextIO | None, descriptor: int, lost: Callable[[OSError], None], *, by_line: bool
) -> TextIO:
    if stream is None:
        binary: BinaryIO = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - never closed
    else:
        binary = stream.buffer
    output = _Output(binary, lost)
    return io.TextIOWrapper(
        io.BufferedWriter(output),
        "utf-8",
        # A byte in a path that is no UTF-8 is then written as JSON escapes it.
        errors="backslashreplace",
        line_buffering=by_line or output.isatty(),
    )


def _end(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise SystemExit(CLOSED_PIPE)
    reason = error.strerror or error
    print(f"jina-rerank: standard output: cannot be written: {reason}", file=sys.stderr)  # noqa: T201
    raise SystemExit(LOST_OUTPUT)


def _go_on(error: OSError) -> None:
    """Standard error has no place where its own failure could be said."""


def _fill_closed_descriptors() -> None:
    """Keep the next file that is opened from being taken for a standard stream.

    What fills the place of a closed one is opened the wrong way round, so that its use still fails.
    """
    for descriptor, wrong_way in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, wrong_way)  # the lowest descriptor that is free
