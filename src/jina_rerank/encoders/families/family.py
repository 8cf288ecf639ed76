"""What a family of checkpoints is: how its config.json and its tensors' names are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..architecture import Architecture
from ..config_file import ConfigFile


@dataclass(frozen=True, slots=True)
class Source:
    """Where a parameter of `EncoderModel` stands in a checkpoint.

    Attributes:
        name: The tensor.
        part: Which of its equal parts, from 0, in rows.
        parts: How many it has: 3 where queries, keys and values are one tensor.
    """

    name: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of checkpoint.

    Attributes:
        name: For messages.
        reads: Whether a config.json is of this family.
        architecture: Reads the architecture from config.json, given the longest pair that the
            tokenizer states, or None. It raises `ModelLoadError` for what cannot be computed
            exactly.
        source: Where a parameter stands, by its name in `EncoderModel`.
        unused: Beginnings of the names of tensors that such checkpoints hold and that no logit
            depends on.
    """

    name: str
    reads: Callable[[ConfigFile], bool]
    architecture: Callable[[ConfigFile, int | None], Architecture]
    source: Callable[[str], Source]
    unused: tuple[str, ...] = ()
