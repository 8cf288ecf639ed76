"""Interface and base class of students: check, build and train before ranking."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ...encoders import EncoderModel, JinaBert, PairTokenizer
from ...encoders.checkpoint import save_checkpoint
from ..digests import digest, digest_file
from ..settings import Settings
from ..training.ranking import AuxiliaryLoss, RankingObjective, RankingSettings
from ..training.trainer import Objective, TrainingSettings


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of training before ranking.

    Attributes:
        name: Name of the stage, and of its folder in the output.
        objective: Objective of the training.
        settings: Settings of the training.
        finish: Called with the trained model, which it may change in place.
    """

    name: str
    objective: Objective[Any]
    settings: TrainingSettings
    finish: Callable[[EncoderModel], None] | None = None


@dataclass(frozen=True)
class Material:
    """Data that a student's stages may learn from.

    Attributes:
        passages: All texts.
        examples: Some queries with their answers.
        tokenizer: The student's tokenizer.
        device: The student's device.
        dtype: Data type of the computation.
        ranking: The recipe's settings of ranking.
        ranking_objective: Builds an objective over the candidate lists.
    """

    passages: Sequence[str]
    examples: Sequence[tuple[str, str]]
    tokenizer: Tokenizer
    device: str
    dtype: torch.dtype
    ranking: RankingSettings
    ranking_objective: Callable[[RankingSettings, AuxiliaryLoss | None], RankingObjective]


class Student(Protocol):
    """The student of a recipe, which can be checked, built and trained."""

    @property
    def seed(self) -> int:
        """Seed of random weights and choices."""
        ...

    @property
    def examples(self) -> int:
        """Number of examples, queries with their answers, that `build` uses."""
        ...

    @property
    def identity(self) -> str:
        """Digest of all that determines the model before training."""
        ...

    def check(self) -> int:
        """Check that the student can be built, before the teachers score for hours.

        Returns:
            Maximum number of tokens of a query and a passage together.

        Raises:
            ConfigurationError: It cannot be built; the message names the field.
        """
        ...

    def build(self, examples: Sequence[tuple[str, str]]) -> tuple[EncoderModel, Tokenizer]:
        """Build the model before any training, float32 on the CPU, and its tokenizer.

        Args:
            examples: Queries with their answers from the training data, `examples` of them or,
                where there are fewer, all.

        Raises:
            ConfigurationError: As `check`.
        """
        ...

    def masks(self, model: EncoderModel) -> Mapping[str, Tensor] | None:
        """Masks of the weights' elements that are trained, see `Trainer`; None for all."""
        ...

    def save(self, model: EncoderModel, tokenizer: Tokenizer, folder: Path) -> None:
        """Write a folder that `LocalScorer` loads.

        Args:
            model: The model that `build` returned, whatever its weights are now.
            tokenizer: The tokenizer that `build` returned.
            folder: Output folder; it is created if it does not exist.
        """
        ...

    def stages(self, material: Material) -> Sequence[Stage]:
        """Return the stages of training before ranking."""
        ...

    def auxiliary_loss(self, material: Material) -> AuxiliaryLoss | None:
        """Return the loss that is added to the ranking losses, if there is one."""
        ...


class StudentSettings(Settings, ABC):
    """Base class of students: all weights are trained, with ranking as the only stage."""

    @property
    def examples(self) -> int:
        """See `Student`."""
        return 0

    @property
    def identity(self) -> str:
        """See `Student`. Files count by their contents, and not by their paths."""
        # The strings among the settings are paths.
        settings = [(name, value) for name, value in self if not isinstance(value, str)]
        return digest(type(self).__name__, settings, *map(digest_file, self._files()))

    @abstractmethod
    def _files(self) -> Sequence[Path]:
        """List the files that the model is built from."""

    def masks(self, _model: EncoderModel) -> Mapping[str, Tensor] | None:
        """See `Student`."""
        return None

    def save(self, model: EncoderModel, tokenizer: Tokenizer, folder: Path) -> None:
        """See `Student`. Writes a JinaBERT checkpoint."""
        save_checkpoint(as_jinabert(model), tokenizer, folder)

    def stages(self, _material: Material) -> Sequence[Stage]:
        """See `Student`."""
        return ()

    def auxiliary_loss(self, _material: Material) -> AuxiliaryLoss | None:
        """See `Student`."""
        return None


def room_of(max_length: int, tokenizer: Tokenizer) -> int:
    """Compute how many tokens of a query and a passage fit into a pair.

    Args:
        max_length: Longest pair that the student reads, in tokens.
        tokenizer: The student's tokenizer, whose template adds special tokens.
    """
    return max_length - PairTokenizer(tokenizer).special_tokens


def as_jinabert(model: EncoderModel) -> JinaBert:
    """Narrow the type of a student's model; all students build a JinaBERT unless they say so.

    Raises:
        TypeError: The model is of another family.
    """
    if not isinstance(model, JinaBert):
        raise TypeError(f"the student's model is {type(model).__name__}, not JinaBert")
    return model
