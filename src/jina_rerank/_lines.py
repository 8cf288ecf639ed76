"""Reading text files line by line, gzipped or not, with errors that name the file and the line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._inputs import check_text
from .errors import InputError


def find_file(path: Path) -> Path | None:
    """The file itself, or the same with `.gz` behind its name, or None."""
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            return candidate
    return None


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Every line that is not blank, with where it is: `"corpus.jsonl:12"`.

    Args:
        path: A text file in UTF-8; one whose name ends in `.gz` is unpacked.

    Raises:
        InputError: The file cannot be read, or is not UTF-8.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{path}:{number}"
                # Line by line, since a decoder of the whole would name a place some pages off.
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    yield where, text.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(where, f"is not UTF-8 text: {error.reason}") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(str(path), f"cannot be read: {reason}") from error


def read_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of a JSON Lines file, with where it is.

    Args:
        path: As for `read_lines`.

    Raises:
        InputError: As for `read_lines`, or a line is not a JSON object.
    """
    for where, line in read_lines(path):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(where, f"is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise InputError(where, f"must be a JSON object, not {type(value).__name__}")
        yield where, value


def take_text(value: dict[str, Any], key: str, where: str) -> str:
    """The string under a key.

    Raises:
        InputError: There is none.
    """
    text = value.get(key)
    if not isinstance(text, str):
        raise InputError(where, f"must have a string under {key!r}")
    return text


def take_id(value: dict[str, Any], key: str, where: str) -> str:
    """The identifier under a key; whole numbers count as identifiers too.

    Raises:
        InputError: There is none, or it is not valid Unicode.
    """
    identifier = value.get(key)
    if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
        raise InputError(where, f"must have an identifier under {key!r}")
    return check_text(str(identifier), f"{where}: {key}")
