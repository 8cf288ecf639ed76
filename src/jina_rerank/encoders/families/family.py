"""A family of checkpoints: how its config.json and its tensors' names are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..architecture import Architecture
from ..config_file import ConfigFile
from ..files import ModuleFiles


@dataclass(frozen=True, slots=True)
class Source:
    """Where a parameter of `EncoderModel` stands in a checkpoint.

    Attributes:
        name: The tensor. Tensors of a module's own file have its folder and a dot before.
        part: Which of its equal parts, from 0, in rows.
        parts: How many it has: 3 where queries, keys and values are one tensor.
    """

    name: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Extras:
    """The files beside config.json that decide what a model is.

    Attributes:
        tokenizer_length: Longest pair that the tokenizer states, in tokens, or None.
        modules: The entries of modules.json.
    """

    tokenizer_length: int | None = None
    modules: tuple[ModuleFiles, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """A checkpoint as its family describes it.

    Attributes:
        architecture: The shape.
        source: Where a parameter stands, by its name in `EncoderModel`.
    """

    architecture: Architecture
    source: Callable[[str], Source]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of checkpoint.

    Attributes:
        name: For messages.
        reads: Whether a checkpoint is of this family.
        describe: Reads a checkpoint's description. It raises `ModelLoadError` for what cannot be
            computed exactly.
        unused: Beginnings of the names of tensors that such checkpoints hold and that no logit
            depends on.
    """

    name: str
    reads: Callable[[ConfigFile, Extras], bool]
    describe: Callable[[ConfigFile, Extras], Description]
    unused: tuple[str, ...] = ()
