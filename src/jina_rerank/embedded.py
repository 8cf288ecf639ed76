"""The embedded model: its names, and its folder."""

from __future__ import annotations

import importlib.util
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from .errors import ConfigurationError

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


def find_other_source(model: str | PathLike[str]) -> str | PathLike[str]:
    """Find the source of a model for sentence-transformers, which cannot run the embedded model.

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
