"""How models on this machine are named: the embedded one, folders, hub ids."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from .errors import ConfigurationError

EMBEDDED_MODEL = "jina-rerank-mini"
"""The name and the distribution of the model that ships with the package."""

_EMBEDDED_NAMES = frozenset({EMBEDDED_MODEL, "mini"})

Source: TypeAlias = str | PathLike[str] | None
"""Where a model's files are: a hub id or a folder, or None for the embedded model."""


def find_source(model: Source) -> Source:
    """The source that a model's name stands for.

    A string that is the embedded model's name means that model, in whatever folder the process
    runs. A folder of the same name is given as a path: `./jina-rerank-mini`, or a `Path`.

    Args:
        model: `jina-rerank-mini`, its short form `mini`, or None for the embedded model; otherwise
            a hub id or a folder.

    Raises:
        ConfigurationError: The name is blank.
    """
    if not isinstance(model, str):
        return model
    if not model or model.isspace():
        raise ConfigurationError(
            f"model: {model!r} is blank; name a folder or a hub id, or {EMBEDDED_MODEL} for the "
            "embedded model"
        )
    return None if model in _EMBEDDED_NAMES else model


def find_other_source(model: str | PathLike[str]) -> str | PathLike[str]:
    """The source of a model that sentence-transformers is to run; it does not run the embedded one.

    Raises:
        ConfigurationError: The name is blank, or the embedded model's.
    """
    source = find_source(model)
    if source is None:
        raise ConfigurationError(
            f"model: {model} is the embedded model, which sentence-transformers does not run; "
            f"use LocalScorer() or OnnxScorer(), or --model {EMBEDDED_MODEL} in the command"
        )
    return source


def name_of_path(model: Source) -> str | None:
    """A model's name as a string, for frameworks that keep strings only.

    A path with the embedded model's name becomes `./jina-rerank-mini`, so that it stays a path.
    """
    if not isinstance(model, PathLike):
        return model
    path = fspath(model)
    return f"./{path}" if path in _EMBEDDED_NAMES else path


def split_served(entry: str) -> tuple[str, str]:
    """The name that clients use for a served model, and the model, from `NAME=MODEL` or `MODEL`.

    A path is a model and nothing else, whatever characters it has: an existing folder, and what
    begins with `/`, `.` or `~`.

    Raises:
        ConfigurationError: There is nothing before or after the equals sign.
    """
    name, equals, model = entry.partition("=")
    if not equals or entry.startswith(("/", ".", "~")) or Path(entry).is_dir():
        return entry, entry
    name, model = name.strip(), model.strip()
    if not name or not model:
        raise ConfigurationError(
            f"models: {entry!r} lacks a part; write NAME=MODEL, or a model alone"
        )
    return name, model
