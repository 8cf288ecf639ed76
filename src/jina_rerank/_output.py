"""Output files and folders: one run at a time, and errors that name what cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigurationError, InputError

LOCK = "lock"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the OS errors of a block that writes to `path` or below into input errors.

    Raises:
        InputError: Something cannot be written: no rights, no space, a file in place of a folder.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            str(error.filename or path), f"cannot be written: {error.strerror or error}"
        ) from error


def write_text(path: Path, text: str) -> None:
    r"""Write a file in UTF-8.

    File names may hold bytes that are not UTF-8; each is written as its JSON escape: `\udce9`.
    """
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a folder against other runs until the block ends, or the process, in whatever way.

    Args:
        folder: The folder; created if it is missing. The file `lock` stays in it, and has no
            effect once its run is over.

    Raises:
        ConfigurationError: Another run holds the lock.
        InputError: The folder cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigurationError(
                f"{folder}: another run is writing there; wait for it, or name another folder"
            ) from None
    try:
        yield
    finally:
        lock.release()
