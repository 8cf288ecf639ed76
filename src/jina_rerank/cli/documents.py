"""Reading documents from files and from standard input."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

from .._inputs import check_text
from .._lines import name_of, parse_json, read_all_lines, take_id, typed_text
from ..errors import InputError

logger = logging.getLogger(__name__)

Format: TypeAlias = Literal["text", "jsonl", "json", "csv", "tsv"]
"""Formats that `--format` takes."""

Lines: TypeAlias = Sequence[tuple[int, str]]
"""Lines with their numbers and line ends."""

STANDARD_INPUT = Path("-")

_BY_SUFFIX: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}

_BEGINS_LIKE_JSON = re.compile(r"""\{|\[\s*(?:["'{\[]|\]?\s*$)""")
"""Beginning of JSON, unlike that of "[12:01] a line of a log"."""

# One field may be a whole document; the csv module's default limit is 131,072 characters.
csv.field_size_limit(10_000_000)


@dataclass(frozen=True, slots=True)
class Document:
    """A document and where it came from.

    Attributes:
        text: Text to be ranked.
        id: From `id` or `_id` in the input; otherwise `source:line`.
        source: Name of the file, or `-`.
        place: Place in the file for errors: `file:line`, or `file[position]` in a JSON array.
    """

    text: str
    id: str
    source: str
    place: str


def read_documents(
    files: Sequence[Path], input_format: Format | None, column: str
) -> list[Document]:
    """Read all documents of all files.

    Args:
        files: Files with text in UTF-8; files that end in `.gz` are unpacked. `-` is standard
            input.
        input_format: Format of all files; None to detect it by each file's name or, failing that,
            by its content.
        column: The column or key that holds the text.

    Raises:
        InputError: A file cannot be read, is not in its format, or its format is ambiguous; or
            there is no document at all. The message names the line.
    """
    documents: list[Document] = []
    empty: list[str] = []
    for file in files:
        reader = _Reader.of(file, column)
        found = list(reader.read(file, input_format))
        documents += found
        if not found:
            empty.append(reader.name)
    if not documents:
        raise InputError(", ".join(empty), "is empty; there is no document to rank")
    for name in empty:
        logger.warning("%s: is empty", name)
    return documents


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one file.

    Attributes:
        name: Name of the file in errors.
        source: Name of the file in results.
        column: The column or key that holds the text.
    """

    name: str
    source: str
    column: str

    @classmethod
    def of(cls, file: Path, column: str) -> _Reader:
        """Create the reader of a file, or of standard input."""
        return cls(name_of(_path_of(file)), typed_text(file), column)

    def read(self, file: Path, kind: Format | None) -> Iterator[Document]:
        """Read the documents of the file."""
        # Closed at once if a line cannot be used: standard input must not stay in use.
        with closing(read_all_lines(_path_of(file))) as lines:
            yield from self._read(lines, file, kind)

    def _read(
        self, lines: Iterable[tuple[int, str]], file: Path, kind: Format | None
    ) -> Iterator[Document]:
        suffix = Path(file.name.lower().removesuffix(".gz")).suffix
        kind = kind or _BY_SUFFIX.get(suffix)
        if kind is None:
            lines = list(lines)
            kind = self._recognise(lines, suffix)
        if kind in {"csv", "tsv"}:
            yield from self._read_table(lines, "," if kind == "csv" else "\t")
        elif kind == "json":
            yield from self._read_json(lines)
        else:
            for number, line in lines:
                # A blank line is a separator and not a document.
                if not line.strip():
                    continue
                if kind == "jsonl":
                    value = parse_json(line, self.name, number)
                    yield self._from_json(value, f":{number}")
                else:
                    yield self._document(line.rstrip("\r\n"), f":{number}")

    def _recognise(self, lines: Lines, suffix: str) -> Format:
        """Detect the format by the content."""
        number, first = next(
            ((number, line.strip()) for number, line in lines if line.strip()), (1, "")
        )
        if suffix == ".json" or first.startswith(("{", "[")):
            if self._is_json(first, dict):
                return "jsonl"
            if suffix == ".json" or self._is_json(_join(lines), object):
                return "json"
        begins_like = None
        if _BEGINS_LIKE_JSON.match(first):
            begins_like = "JSON and is none"
        elif self.column in {field.strip('"') for field in re.split(r"[,;\t]", first)}:
            begins_like = f"a table with a column {self.column!r}"
        if begins_like:
            raise InputError(
                f"{self.name}:{number}",
                f"begins like {begins_like}; name the format: --format text ranks each line as it "
                "is, and there are jsonl, json, csv and tsv",
            )
        return "text"

    def _is_json(self, text: str, kind: type) -> bool:
        try:
            return isinstance(parse_json(text, self.name), kind)
        except InputError:
            return False

    def _read_json(self, lines: Iterable[tuple[int, str]]) -> Iterator[Document]:
        text = _join(lines)
        if not text.strip():
            return
        value = parse_json(text, self.name)
        for place, item in enumerate(value if isinstance(value, list) else [value]):
            yield self._from_json(item, f"[{place}]")

    def _from_json(self, value: object, place: str) -> Document:
        if isinstance(value, str):
            return self._document(value, place)
        text = value.get(self.column) if isinstance(value, dict) else None
        if not isinstance(value, dict) or not isinstance(text, str):
            raise InputError(
                f"{self.name}{place}",
                f"must be an object with a string under {self.column!r}; name the key with "
                "--column",
            )
        return self._document(text, place, value)

    def _read_table(self, lines: Iterable[tuple[int, str]], delimiter: str) -> Iterator[Document]:
        rows = csv.reader((line for _, line in lines), delimiter=delimiter, strict=True)
        heading: list[str] | None = None
        while True:
            # A row may have several lines; errors name the first.
            place = f":{rows.line_num + 1}"
            try:
                row = next(rows, None)
            except csv.Error as error:
                kind = "CSV" if delimiter == "," else "TSV"
                raise InputError(f"{self.name}{place}", f"is not {kind}: {error}") from error
            if row is None:
                return
            if not row:
                continue
            if heading is None:
                heading = row
                self._check_heading(heading, place)
            else:
                yield self._from_row(heading, row, place)

    def _check_heading(self, heading: Sequence[str], place: str) -> None:
        if self.column not in heading:
            raise InputError(
                f"{self.name}{place}",
                f"has no column {self.column!r} but {list(heading)}; name one with --column",
            )
        for name in heading:
            if name and heading.count(name) > 1:
                raise InputError(
                    f"{self.name}{place}",
                    f"has {heading.count(name)} columns {name!r}; rename all but one",
                )

    def _from_row(self, heading: Sequence[str], row: Sequence[str], place: str) -> Document:
        if len(row) != len(heading):
            raise InputError(
                f"{self.name}{place}",
                f"the row has {len(row)} of {len(heading)} fields; put a field that holds a "
                "comma, a tab or a line end in double quotes",
            )
        # The first column may have no name: it often holds row numbers.
        if any(field.strip() for name, field in zip(heading[1:], row[1:], strict=True) if not name):
            raise InputError(
                f"{self.name}{place}",
                "has text in a column that the heading does not name; name it, or put a field that "
                "holds a comma, a tab or a line end in double quotes",
            )
        values = dict(zip(heading, row, strict=True))
        return self._document(values[self.column], place, values)

    def _document(
        self, text: str, place: str, values: Mapping[str, object] = MappingProxyType({})
    ) -> Document:
        """Create a document, and check its text and its identifier.

        Args:
            text: Text to be ranked.
            place: Place in the file, to be appended to its name.
            values: Other fields of the document.
        """
        where = f"{self.name}{place}"
        identifier = f"{self.source}{place}"
        for key in ("id", "_id"):
            # Null and a blank string are common for a missing identifier.
            if values.get(key) is not None and values[key] != "":
                identifier = take_id(values, key, where)
                break
        return Document(check_text(text, where), identifier, self.source, where)


def _path_of(file: Path) -> Path | None:
    return None if file == STANDARD_INPUT else file


def _join(lines: Iterable[tuple[int, str]]) -> str:
    return "".join(line for _, line in lines)
