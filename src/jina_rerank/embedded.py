"""The embedded model: its names, and its folder."""

from __future__ import annotations

import importlib.util
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from .errors import ConfigurationError, ModelLoadError, ModelNotFoundError

EMBEDDED_MODEL = "jina-rerank-mini"
"""Name of the model that ships with the package, and of its distribution."""

EMBEDDED_NAMES = frozenset({EMBEDDED_MODEL, "mini"})
"""The strings that mean the embedded model."""

Source: TypeAlias = str | PathLike[str] | None
"""Source of a model's files: a hub id or a folder, or None for the embedded model."""


def find_source(model: Source) -> Source:
    """Find the source that a model's name stands for.

    A string that is a name of the embedded model means that model, whatever the current folder
    holds. A folder of the same name is given as a path: `./jina-rerank-mini`, or a `Path`.

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
    return None if model in EMBEDDED_NAMES else model


def folder_of(source: str | PathLike[str]) -> Path:
    """Find the folder that a source would be, whether it exists or not.

    Raises:
        ModelNotFoundError: No folder can have this path: it is too long, or `~` names no user.
        ModelLoadError: The system does not let this process look for the folder.
    """
    try:
        folder = Path(source).expanduser()
        folder.is_dir()
    except RuntimeError:
        raise ModelNotFoundError(f"{fspath(source)}: no such folder: no such user") from None
    except PermissionError as error:
        raise ModelLoadError(f"{fspath(source)}: {error.strerror}") from None
    except OSError as error:
        raise ModelNotFoundError(f"{fspath(source)}: no such folder: {error.strerror}") from None
    return folder


def find_other_source(model: str | PathLike[str]) -> str | PathLike[str]:
    """Find the source of a model for sentence-transformers, which cannot run the embedded model.

    Raises:
        ConfigurationError: It is no name or folder, or the name is blank or the embedded model's.
    """
    if not isinstance(model, str | PathLike):
        raise ConfigurationError(f"model must be a hub id or a folder, not {type(model).__name__}")
    source = find_source(model)
    if source is None:
        raise ConfigurationError(
            f"model: {model} is the embedded model, which sentence-transformers does not run; "
            f"use LocalScorer() or OnnxScorer(), or --model {EMBEDDED_MODEL} in the command"
        )
    return source


def embedded_model_folder() -> Path:
    """Find the folder that holds the embedded model's files.

    Raises:
        ConfigurationError: Its distribution is not installed.
    """
    spec = importlib.util.find_spec("jina_rerank_mini")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the embedded model is not installed: pip install jina-rerank-mini, or name another"
        )
    return Path(spec.origin).parent
