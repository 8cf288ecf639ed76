"""Files and folders that runs write: one run at a time, errors that name what cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ConfigurationError, InputError

LOCK = "lock"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block in which files are written to `path` or below.

    Raises:
        InputError: Something cannot be written: no rights, no room, a file in a folder's place.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            str(error.filename or path), f"cannot be written: {error.strerror or error}"
        ) from error


def write_text(path: Path, text: str) -> None:
    r"""Write a file in UTF-8.

    Names of files may hold bytes that are not UTF-8; each is written as JSON escapes it: `\udce9`.
    """
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, until the block ends or the process does, however it does.

    Args:
        folder: Made where it is missing. The file `lock` in it means nothing once its run is over.

    Raises:
        ConfigurationError: Another run holds it.
        InputError: It cannot be written.
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
