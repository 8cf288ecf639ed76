"""Typed fields of a checkpoint's config.json."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import ModelLoadError

C = TypeVar("C")


def positive(value: object) -> float | None:
    """Convert a positive, finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 < value <= sys.float_info.max else None


def _named(folder: Path) -> str:
    """Name a checkpoint as a user does: the hub id for a folder in the hub's cache.

    The folder has the files that a native model needs; by the hub id, the others are fetched.
    """
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return str(folder)


class ConfigFile:
    """A configuration file; errors name the file and the field.

    Args:
        path: The file.
        checkpoint: The folder of the checkpoint that it belongs to; None for the file's own.

    Raises:
        ModelLoadError: It cannot be read, or is no JSON object.

    Attributes:
        path: As given.
        checkpoint: The folder of the checkpoint.
        values: The fields.
    """

    def __init__(self, path: Path, checkpoint: Path | None = None) -> None:
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelLoadError(f"{path}: cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise ModelLoadError(f"{path}: is not a JSON object")
        self.path = path
        self.checkpoint = path.parent if checkpoint is None else checkpoint
        self.values: Mapping[str, object] = values

    def refuse(self, problem: str) -> ModelLoadError:
        """Build the error that says what is wrong with the file."""
        return ModelLoadError(f"{self.path}: {problem}")

    def not_native(self, problem: str) -> ModelLoadError:
        """Build the error for a valid model that is not computed natively, with a way to run it."""
        return self.refuse(
            f"{problem}. sentence-transformers may run it: cross-encoder:{_named(self.checkpoint)}"
        )

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """Read an integer.

        Args:
            name: The field.
            default: Value of an absent or null field; None if the field is required.
            least: Smallest value that is allowed.

        Raises:
            ModelLoadError: It is absent, no integer or too small.
        """
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            wanted = "a positive integer" if least == 1 else f"an integer from {least}"
            raise self.refuse(f"{name} must be {wanted}, not {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        """Read a positive number.

        Raises:
            ModelLoadError: It is something else.
        """
        value = self._value(name, default)
        number = positive(value)
        if number is None:
            raise self.refuse(f"{name} must be a positive number, not {value!r}")
        return number

    def flag(self, name: str, *, default: bool) -> bool:
        """Read true or false.

        Raises:
            ModelLoadError: It is something else.
        """
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.refuse(f"{name} must be true or false, not {value!r}")
        return value

    def choice(self, name: str, default: C, allowed: Sequence[C]) -> C:
        """Read a field of which only some values are computed natively.

        Raises:
            ModelLoadError: It has another value. The message names what may run the model.
        """
        found = self._one_of(name, default, allowed)
        if isinstance(found, str):
            raise self.not_native(found)
        return found[0]

    def only(self, name: str, default: C, allowed: Sequence[C]) -> C:
        """Read a field whose other values cannot be run by any scorer.

        Raises:
            ModelLoadError: It has another value.
        """
        found = self._one_of(name, default, allowed)
        if isinstance(found, str):
            raise self.refuse(found)
        return found[0]

    def _one_of(self, name: str, default: C, allowed: Sequence[C]) -> tuple[C] | str:
        """Read the field's value if it is allowed; otherwise describe the problem."""
        value = self._value(name, default)
        for one in allowed:
            if value == one:
                return (one,)
        known = ", ".join(repr(one) for one in allowed)
        return f"{name} must be one of {known}, not {value!r}"

    def heads(self, hidden_size: int, default: int | None = None) -> int:
        """Read the number of attention heads, which divides the hidden size.

        Args:
            hidden_size: The hidden size.
            default: Number where the field is absent or null; None if it is required.

        Raises:
            ModelLoadError: It does not.
        """
        heads = self.integer("num_attention_heads", default)
        if hidden_size % heads:
            raise self.refuse(
                f"hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}"
            )
        return heads

    def _value(self, name: str, default: object) -> object:
        value = self.values.get(name)
        return default if value is None else value
