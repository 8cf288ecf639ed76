"""The standard streams of the command: UTF-8 in every locale, and an orderly end if they fail."""

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
"""Exit status if the reader of a pipe has closed it: 128 plus the number of SIGPIPE."""

LOST_OUTPUT = 2
"""Exit status if standard output cannot be written, the same as for files."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """Run the command with streams that write UTF-8, and end it if its output is lost.

    If standard output cannot be written, the command ends with status 2 and a message. If its
    reader has closed the pipe, as `head` does, it ends with status 141 and no message. If standard
    error cannot be written, its text is lost and the command continues.
    """
    _fill_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - never closed
    sys.stdout = _open(sys.stdout, 1, _end, by_line=False)
    sys.stderr = _open(sys.stderr, 2, _go_on, by_line=True)
    try:
        yield
    finally:
        # Not at the end of the process, where the interpreter would write its own error message.
        sys.stdout.flush()


class _Output(io.RawIOBase):
    """A standard stream whose failure is handled once, for all libraries that write to it.

    Args:
        stream: The underlying stream.
        lost: Called with the error if the stream cannot be written; later output is discarded.
    """

    def __init__(self, stream: BinaryIO, lost: Callable[[OSError], None]) -> None:
        self._stream = stream
        self._lost = lost

    def write(self, data: ReadableBuffer) -> int:
        try:
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            # So that the stream's buffer does not fail again at the end of the process.
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
        # A byte of a path that is not UTF-8 is then written in the form of JSON's escapes.
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
    """Ignore a failure of standard error, since no stream is left to report it."""


def _fill_closed_descriptors() -> None:
    """Open descriptors of closed standard streams, so that no other file gets their numbers.

    They are opened in the wrong direction, so that their use still fails.
    """
    for descriptor, wrong_way in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, wrong_way)  # the lowest descriptor that is free
