"""Parquet files written in parts, each of which is complete or missing."""

from __future__ import annotations

import json
import posixpath
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq

from ..errors import ConfigurationError

UNFINISHED = "_unfinished-"
"""Prefix of files that are being written; files with this prefix are not read as data."""

MANIFEST = "_rerank.json"
"""File with the source files and the settings of the parts in a folder."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the source.

    Attributes:
        path: Path of the file.
        size: Size in bytes.
        changed: Time of the last change, in nanoseconds since 1970.
    """

    path: str
    size: int
    changed: int


@dataclass(frozen=True, slots=True)
class Part:
    """A row group of a file.

    Attributes:
        source: Path of the file.
        group: Number of the row group; None if the file has none.
        target: Path of the output file.
    """

    source: str
    group: int | None
    target: str


class Folder:
    """Source files, and a folder for the output parts, which are named after the source files.

    Args:
        source: A Parquet file or a folder of them, at any depth; a path, or an address such as
            `s3://bucket/folder`.
        output: The output folder.

    Raises:
        ConfigurationError: There is no such source, or the output is inside it.

    Attributes:
        files: The source files, in order.
    """

    def __init__(self, source: str | PathLike[str], output: str | PathLike[str]) -> None:
        self.filesystem, path = _open(source)
        self.output_filesystem, self.output = _open(output)
        found = self.filesystem.get_file_info(path)
        single = found.type == pa_fs.FileType.File
        self._root = posixpath.dirname(path) if single else path
        self.files = [_describe(found)] if single else _parquet_files(self.filesystem, path)
        if not self.files:
            raise ConfigurationError(f"{fspath(source)}: there is no Parquet file")
        if f"{self.output}/".startswith(f"{self._root}/") and not single:
            raise ConfigurationError(f"{fspath(output)}: is in the source; name another folder")

    def parts(self) -> Iterator[Part]:
        """List all parts, from the footers of the source files."""
        for file in self.files:
            relative = posixpath.relpath(file.path, self._root)
            stem = posixpath.join(self.output, relative.removesuffix(".parquet"))
            groups = self.open(file.path).num_row_groups
            yield from (
                Part(file.path, group, f"{stem}-{group:05}.parquet") for group in range(groups)
            )
            if not groups:
                yield Part(file.path, None, f"{stem}-00000.parquet")

    def missing(self) -> list[Part]:
        """List the parts that have not been written yet."""
        there = {file.path for file in _parquet_files(self.output_filesystem, self.output)}
        return [part for part in self.parts() if part.target not in there]

    def open(self, path: str) -> pq.ParquetFile:
        """Open a file of the source."""
        return pq.ParquetFile(self.filesystem.open_input_file(path))

    def claim(self, settings: Mapping[str, str]) -> None:
        """Write the manifest, and remove unfinished files of earlier runs.

        Args:
            settings: All settings that determine the scores.

        Raises:
            ConfigurationError: The folder holds something else, or was begun with other settings or
                files.
        """
        filesystem = self.output_filesystem
        path = posixpath.join(self.output, MANIFEST)
        # Size and time tell whether a file has been replaced.
        files = {
            posixpath.relpath(file.path, self._root): [file.size, file.changed]
            for file in self.files
        }
        if filesystem.get_file_info(path).type == pa_fs.FileType.NotFound:
            if _parquet_files(filesystem, self.output):
                raise ConfigurationError(f"{self.output}: holds other Parquet files")
        else:
            with filesystem.open_input_stream(path) as stream:
                earlier = json.loads(stream.read())
            for name, value in settings.items():
                if earlier["settings"].get(name) != value:
                    raise ConfigurationError(
                        f"{self.output}: was begun with another {name}; name another folder"
                    )
            for name, state in earlier["files"].items():
                if files.get(name) != state:
                    raise ConfigurationError(
                        f"{self.output}: {name} has changed since, or is gone; name another folder"
                    )
        filesystem.create_dir(self.output, recursive=True)
        for file in filesystem.get_file_info(pa_fs.FileSelector(self.output, recursive=True)):
            if file.base_name.startswith(UNFINISHED):
                filesystem.delete_file(file.path)
        text = json.dumps({"settings": dict(settings), "files": files}, indent=1).encode()
        with _whole(filesystem, path) as stream:
            stream.write(text)

    def write(self, part: Part, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        """Write a part; its file appears when it is complete.

        Args:
            part: The part, with the path of its file.
            schema: Schema of the tables.
            tables: Tables with the part's rows.
        """
        with (
            _whole(self.output_filesystem, part.target) as stream,
            pq.ParquetWriter(stream, schema) as writer,
        ):
            for table in tables:
                writer.write_table(table)


def _open(path: str | PathLike[str]) -> tuple[pa_fs.FileSystem, str]:
    """Return the filesystem of a path or an address, and the path in it."""
    text = fspath(path)
    if "://" not in text:
        return pa_fs.LocalFileSystem(), Path(text).resolve().as_posix()
    filesystem, inside = pa_fs.FileSystem.from_uri(text)
    return filesystem, inside.rstrip("/")


def _parquet_files(filesystem: pa_fs.FileSystem, folder: str) -> list[File]:
    """List a folder's Parquet files at any depth, in order; none if there is no such folder."""
    selector = pa_fs.FileSelector(folder, recursive=True, allow_not_found=True)
    found = (
        _describe(file)
        for file in filesystem.get_file_info(selector)
        if file.type == pa_fs.FileType.File
        and file.extension == "parquet"
        and not file.base_name.startswith(("_", "."))
    )
    return sorted(found, key=lambda file: file.path)


def _describe(info: pa_fs.FileInfo) -> File:
    return File(info.path, info.size, info.mtime_ns)


@contextmanager
def _whole(filesystem: pa_fs.FileSystem, path: str) -> Iterator[pa.NativeFile]:
    """Open a stream whose file appears under its name at the end of the block."""
    folder, name = posixpath.split(path)
    filesystem.create_dir(folder, recursive=True)
    # A unique name, since Ray may run a part twice if a node is unreachable for a while.
    unfinished = posixpath.join(folder, f"{UNFINISHED}{name}-{secrets.token_hex(4)}")
    with filesystem.open_output_stream(unfinished) as stream:
        yield stream
    filesystem.move(unfinished, path)
