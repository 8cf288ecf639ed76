"""Interface of a family of checkpoints: it reads a config.json and maps the tensors' names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..architecture import Architecture
from ..config_file import ConfigFile
from ..files import ModuleFiles


@dataclass(frozen=True, slots=True)
class Source:
    """Place of a parameter of `EncoderModel` in a checkpoint.

    Attributes:
        name: The tensor's name. For a module's own file, its folder and a dot come first.
        part: Number of the part of the tensor, from 0; the tensor's rows are divided equally.
        parts: Number of parts: 3 where queries, keys and values are one tensor.
    """

    name: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Extras:
    """Data from the files beside config.json that describe a model.

    Attributes:
        stated_length: Longest pair in tokens that these files allow, or None.
        modules: The entries of modules.json.
    """

    stated_length: int | None = None
    modules: tuple[ModuleFiles, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """A checkpoint as its family describes it.

    Attributes:
        architecture: The shape.
        source: Finds a parameter in the files by its name in `EncoderModel`.
    """

    architecture: Architecture
    source: Callable[[str], Source]


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of checkpoint.

    Attributes:
        name: The family's name in messages.
        reads: Tells whether a checkpoint is of this family.
        describe: Reads a checkpoint's description. It raises `ModelLoadError` for a checkpoint
            that cannot be computed exactly.
        unused: Prefixes of the names of tensors in such checkpoints that no logit depends on.
    """

    name: str
    reads: Callable[[ConfigFile, Extras], bool]
    describe: Callable[[ConfigFile, Extras], Description]
    unused: tuple[str, ...] = ()
