"""Reading of text files: UTF-8, gzipped or not, with errors that name the file and the line."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from ._inputs import check_text
from .errors import InputError

BYTE_ORDER_MARK = "\ufeff"


def find_file(path: Path) -> Path | None:
    """Find a file, or the same name with `.gz` appended; None if neither exists."""
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            return candidate
    return None


def typed_text(argument: str | Path) -> str:
    """Decode an argument of the command line as UTF-8, whatever the locale's encoding is.

    Args:
        argument: A string or path from the command line. Bytes that are not UTF-8 stay lone
            surrogates, as Python has them.
    """
    try:
        return os.fsencode(argument).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # from a caller in Python, not from the command line
        return str(argument)


def name_of(path: Path | None) -> str:
    """The name of a file in errors; None is standard input."""
    return "standard input" if path is None else typed_text(path)


def read_all_lines(path: Path | None) -> Generator[tuple[int, str], None, None]:
    """Read every line, with its number and its line end.

    Lines are numbered from 1 and end with a line feed, a carriage return, or both. A byte order
    mark at the beginning of any line is removed: `cat` puts them there.

    Args:
        path: A text file in UTF-8; one whose name ends in `.gz` is unpacked. None is standard
            input.

    Raises:
        InputError: The file cannot be read, or is not UTF-8.
    """
    name = name_of(path)
    try:
        with _opened(path) as file:
            # A strict decoder works in blocks, so its errors would name a place some pages off.
            lines = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="")
            try:
                for number, line in enumerate(lines, 1):
                    _check_utf8(line, f"{name}:{number}")
                    yield number, line.lstrip(BYTE_ORDER_MARK)
            finally:
                lines.detach()  # otherwise standard input would be closed
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(name, f"cannot be read: {reason}") from error


def read_text(path: Path) -> str:
    """Read a whole text file, without a byte order mark.

    Args:
        path: As for `read_all_lines`.

    Raises:
        InputError: As for `read_all_lines`.
    """
    return "".join(line for _, line in read_all_lines(path))


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Read each line that is not blank, without its end, after its place: `"corpus.jsonl:12"`.

    Args:
        path: As for `read_all_lines`.

    Raises:
        InputError: As for `read_all_lines`.
    """
    name = name_of(path)
    for number, line in read_all_lines(path):
        if line.strip():
            yield f"{name}:{number}", line.rstrip("\r\n")


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read every object of a JSON Lines file, after its place.

    Args:
        path: As for `read_all_lines`.

    Raises:
        InputError: As for `read_all_lines`, or a line is not a JSON object.
    """
    name = name_of(path)
    for number, line in read_all_lines(path):
        if line.strip():
            value = parse_json(line, name, number)
            where = f"{name}:{number}"
            if not isinstance(value, dict):
                raise InputError(where, f"must be a JSON object, not {type(value).__name__}")
            yield where, value


def parse_json(text: str, name: str, first_line: int = 1) -> object:
    """Parse a JSON text.

    Args:
        text: One line of a file, or several.
        name: The name of the file, for errors.
        first_line: The line of the file where the text begins.

    Raises:
        InputError: It is not JSON, is nested too deeply, or an object has a key twice.
    """
    try:
        # Without the line end, which would move the error of incomplete JSON to the next line.
        return _DECODER.decode(text.rstrip())
    except json.JSONDecodeError as error:
        where = f"{name}:{first_line + error.lineno - 1}"
        raise InputError(where, f"is not JSON: {error.msg}, at column {error.colno}") from error
    except RecursionError:
        # No cause: its thousand frames of the parser carry no information.
        raise InputError(f"{name}:{first_line}", "is not JSON: it is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{name}:{first_line}", f"is not JSON: {error}") from error


def take_text(value: Mapping[str, object], key: str, where: str) -> str:
    """Get the string under a key.

    Raises:
        InputError: There is none, or no tokenizer could read it.
    """
    text = value.get(key)
    if not isinstance(text, str):
        raise InputError(where, f"must have a string under {key!r}")
    return check_text(text, f"{where}: {key}")


def take_id(value: Mapping[str, object], key: str, where: str) -> str:
    """Get the identifier under a key; whole numbers count as identifiers too.

    Raises:
        InputError: There is none, or it is not valid Unicode.
    """
    identifier = value.get(key)
    if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
        raise InputError(where, f"must have an identifier under {key!r}")
    return check_text(str(identifier), f"{where}: {key}")


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdin.buffer
    elif path.suffix.lower() == ".gz":
        with gzip.open(path) as file:
            yield cast("BinaryIO", file)  # only the annotations of its methods differ
    else:
        with path.open("rb") as plain:
            yield plain


def _check_utf8(line: str, where: str) -> None:
    try:
        # isascii reads a flag that every str carries, so most lines are never encoded.
        if not line.isascii():
            line.encode()
    except UnicodeEncodeError as error:
        # The text at that place is not quoted: it may be part of a key.
        raise InputError(
            where, f"is not UTF-8 text at column {error.start + 1}; convert it to UTF-8 first"
        ) from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {repeated!r} twice")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats)
