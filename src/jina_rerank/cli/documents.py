"""Reading documents from files and from standard input."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError

Format = Literal["text", "jsonl", "csv"]

_BY_SUFFIX: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}

# One field may be a whole document; the module's own limit is 131,072 characters.
csv.field_size_limit(10_000_000)


@dataclass(frozen=True, slots=True)
class Document:
    """A document and where it came from.

    Attributes:
        text: What is ranked.
        id: From `id` or `_id` in the input; otherwise `source:line`.
        source: The file's name, or `-`.
    """

    text: str
    id: str
    source: str


def read_documents(
    files: Sequence[Path], input_format: Format | None, column: str
) -> list[Document]:
    """All documents of all files.

    Args:
        files: `-` is standard input.
        input_format: Of all files; None takes it from each name, text if it says nothing.
        column: The column or key that holds the text.

    Raises:
        InputError: A file cannot be read, or not in its format; it names the line.
    """
    documents: list[Document] = []
    for file in files:
        source = str(file)
        kind = input_format or _BY_SUFFIX.get(file.suffix.lower(), "text")
        try:
            if source == "-":
                documents += _read(sys.stdin, kind, source, column)
            else:
                with file.open(encoding="utf-8-sig", newline="") as lines:
                    documents += _read(lines, kind, source, column)
        except OSError as error:
            raise InputError(source, f"cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(source, f"is not UTF-8 text: {error.reason}") from error
    return documents


def _read(lines: Iterable[str], kind: Format, source: str, column: str) -> Iterator[Document]:
    if kind == "csv":
        yield from _read_csv(lines, source, column)
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue  # a blank line separates documents and is none
        where = f"{source}:{number}"
        if kind == "jsonl":
            yield _from_json(line, where, source, column)
        else:
            yield Document(line.rstrip("\r\n"), where, source)


def _read_csv(lines: Iterable[str], source: str, column: str) -> Iterator[Document]:
    rows = csv.DictReader(lines, strict=True)
    columns = rows.fieldnames or []
    if column not in columns:
        raise InputError(
            source, f"has no column {column!r} but {list(columns)}; name one with --column"
        )
    try:
        for row in rows:
            where = f"{source}:{rows.line_num}"
            text = row[column]
            if text is None:
                raise InputError(where, f"has no field for the column {column!r}")
            yield Document(text, row.get("id") or row.get("_id") or where, source)
    except csv.Error as error:
        raise InputError(f"{source}:{rows.line_num}", f"is not CSV: {error}") from error


def _from_json(line: str, where: str, source: str, column: str) -> Document:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InputError(where, f"is not JSON: {error}") from error
    text = value.get(column) if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise InputError(
            where, f"must be an object with a string under {column!r}; name the key with --column"
        )
    identifier = value.get("id", value.get("_id", where))
    return Document(text, str(identifier), source)
