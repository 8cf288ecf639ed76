"""Identity of the weights under a name, to tell whether earlier scores are still valid."""

from __future__ import annotations

import importlib.metadata
import os
from functools import cache
from hashlib import file_digest
from os import PathLike, fspath
from pathlib import Path

from ..embedded import EMBEDDED_MODEL

Weights = list[object] | None
"""Identity of the weights under a name; None if they are not on this machine."""

_CHECKPOINT_SUFFIXES = {
    ".bin",
    ".json",
    ".model",
    ".onnx",
    ".onnx_data",
    ".safetensors",
    ".txt",
}


def find_weights(source: str | PathLike[str] | None, revision: str | None) -> Weights:
    """Identify the weights that are there now, without reading them.

    Args:
        source: A folder, a hub id, or None for the embedded model.
        revision: A branch, tag or commit on the hub.
    """
    if source is None:
        return [EMBEDDED_MODEL, _embedded_version()]
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return _weights_in_hub_cache(fspath(source), revision)
    files = [[name, found.st_size, found.st_mtime_ns] for name, found in _files(folder)]
    return [os.path.realpath(folder), files]


def digest_weights(source: str | PathLike[str], revision: str | None) -> Weights:
    """Identify the weights that are there now by the contents of their files, not their times.

    For scores that are kept for days: a package that is installed again has new times and the same
    weights. Reading takes a second for a gigabyte, once.

    Args:
        source: A folder, or a hub id, which is identified by its commit in the cache.
        revision: A branch, tag or commit on the hub.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return _weights_in_hub_cache(fspath(source), revision)
    return [
        [name, _digest(folder / name, found.st_size, found.st_mtime_ns)]
        for name, found in _files(folder)
    ]


def _files(folder: Path) -> list[tuple[str, os.stat_result]]:
    """List a checkpoint's files by their names in its folder, those of its modules included."""
    return [
        (file.relative_to(folder).as_posix(), file.stat())
        for file in sorted(folder.rglob("*"))
        if file.suffix in _CHECKPOINT_SUFFIXES and file.is_file()
    ]


@cache
def _digest(file: Path, _size: int, _modified: int) -> str:
    with file.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


@cache
def _embedded_version() -> str | None:
    try:
        return importlib.metadata.version(EMBEDDED_MODEL)
    except importlib.metadata.PackageNotFoundError:
        return None  # loading reports that it is missing


def _weights_in_hub_cache(name: str, revision: str | None) -> Weights:
    try:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(name, "config.json", revision=revision)
    except (ImportError, ValueError):  # ValueError: the hub allows no such name
        return None
    return [name, Path(path).parent.name] if isinstance(path, str) else None
