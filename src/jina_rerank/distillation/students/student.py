"""A student: how it is checked, built and trained before it learns to rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ...encoders import JinaBert, JinaBertConfig
from ..settings import Settings
from ..training.ranking import AuxiliaryLoss, RankingObjective, RankingSettings
from ..training.trainer import Objective, TrainingSettings


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of training before ranking.

    Attributes:
        name: Its folder's in the output.
        objective: What is learned.
        settings: For how long and how fast.
        finish: Called with the trained model, which it may change in place.
    """

    name: str
    objective: Objective[Any]
    settings: TrainingSettings
    finish: Callable[[JinaBert], None] | None = None


@dataclass(frozen=True)
class Material:
    """Data that a student's stages may learn from.

    Attributes:
        passages: All texts.
        examples: Some queries with their answers.
        tokenizer: The student's.
        device: The student's.
        dtype: What is computed in.
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
    """The student of a recipe: how it is checked, built and trained."""

    @property
    def seed(self) -> int:
        """Seed of what is random."""
        ...

    @property
    def examples(self) -> int:
        """Number of queries with their answers that it is shown when it is built."""
        ...

    @property
    def identity(self) -> str | None:
        """Settings that decide which model this is and are not seen in its weights' shapes."""
        ...

    def check(self) -> None:
        """See that it can be built, before teachers are asked for hours.

        Raises:
            ConfigurationError: It cannot; the message names the field.
        """
        ...

    def build(self, examples: Sequence[tuple[str, str]]) -> tuple[JinaBert, Tokenizer]:
        """The model before any training, float32 on the CPU, and its tokenizer.

        Args:
            examples: Queries with their answers, of those that it will be trained on; as many as
                it asks for, or all.

        Raises:
            ConfigurationError: As `check`.
        """
        ...

    def masks(self, config: JinaBertConfig) -> Mapping[str, Tensor] | None:
        """Masks of the elements of its weights that are trained, see `Trainer`; None for all."""
        ...

    def stages(self, material: Material) -> Sequence[Stage]:
        """Its stages of training before ranking."""
        ...

    def auxiliary_loss(self, material: Material) -> AuxiliaryLoss | None:
        """The loss that it learns beside ranking, if it has one."""
        ...


class StudentSettings(Settings):
    """Base of students: all weights are trained, and only to rank."""

    @property
    def examples(self) -> int:
        """See `Student`."""
        return 0

    @property
    def identity(self) -> str | None:
        """See `Student`."""
        return None

    def masks(self, _config: JinaBertConfig) -> Mapping[str, Tensor] | None:
        """See `Student`."""
        return None

    def stages(self, _material: Material) -> Sequence[Stage]:
        """See `Student`."""
        return ()

    def auxiliary_loss(self, _material: Material) -> AuxiliaryLoss | None:
        """See `Student`."""
        return None
