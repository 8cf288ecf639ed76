"""The recipe of a distillation: a TOML file, validated.

    [student]
    bi_to_cross = "models/all-MiniLM-L6-v2"   # or convert, checkpoint or shape

    [data]
    pairs = ["pairs/*.jsonl"]

    [[teacher]]
    name = "minilm"
    model = "bi-encoder:models/all-MiniLM-L6-v2"

    [training]
    steps = 1000

Paths are relative to the directory that the command is run in.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .._lines import read_text
from ..errors import InputError
from .settings import (
    Count,
    NotNegative,
    Seed,
    Settings,
    Tables,
    Texts,
    read_settings,
    refuse,
    refuse_field,
)
from .students import TAGS, AnyStudent, check_student_fields
from .teachers import TeacherSettings
from .training.ranking import RankingSettings
from .training.trainer import TrainingSettings


def _check_any(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if not patterns:
        raise refuse("is empty; name at least one file")
    return patterns


class DataSettings(Settings):
    """Training data.

    Attributes:
        pairs: Files, or patterns such as `pairs/*.jsonl`; see `read_pairs`.
        queries: How many queries of each source at most, drawn at random; None for all. Teachers
            are asked for all of them, and a step takes a few. Passages stay.
        weights: How often lists of a source are drawn, where it is not 1.
        seed: Seed of the choice of queries and of negatives.
    """

    pairs: Annotated[Texts, AfterValidator(_check_any)]
    queries: Count | None = None
    weights: dict[str, NotNegative] = Field(default_factory=dict)
    seed: Seed = 0


class EvaluationSettings(Settings):
    """Collection for the evaluation whenever the state is saved.

    Attributes:
        collections: Folders in BEIR layout, none of which may be trained on.
        queries: How many of each, at most.
        depth: How many of BM25's best are reranked.
    """

    collections: Texts = ()
    queries: Count = 50
    depth: Count = 50


class CardSettings(Settings):
    """Texts of the model card, which cannot be measured.

    Attributes:
        name: The model's.
        license: An SPDX identifier.
        data: The data and its licences, in Markdown.
    """

    name: str = "a reranker"
    license: str = "other"
    data: str = ""


class Recipe(Settings):
    """All of it; see `read_recipe`.

    Attributes:
        student: What it starts as.
        data: What it reads.
        teacher: Whom it follows.
        training: For how long and how fast.
        ranking: What a step is made of.
        evaluation: What is evaluated on as it goes.
        card: What the model card says.
    """

    student: Annotated[AnyStudent, BeforeValidator(check_student_fields)]
    data: DataSettings
    teacher: Annotated[tuple[TeacherSettings, ...], Tables]
    training: TrainingSettings
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    card: CardSettings = Field(default_factory=CardSettings)

    @model_validator(mode="after")
    def _check(self) -> Self:
        ranking = self.ranking
        if not self.teacher and (ranking.kl or ranking.margin_mse):
            raise refuse_field(
                "teacher", "there is none; add one, or set ranking.kl and ranking.margin_mse to 0"
            )
        if not self.teacher and ranking.consistency is not None:
            raise refuse_field(
                "ranking.consistency", "is for lists that a teacher scored; leave it out"
            )
        if not ranking.ranks:
            raise refuse_field(
                "ranking",
                "kl, margin_mse, contrastive and pointwise are all 0; nothing is learned",
            )
        names = [one.name for one in self.teacher]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise refuse_field("teacher", f"two are called {repeated[0]!r}; give one another name")
        return self


def read_recipe(path: Path) -> Recipe:
    """Read and validate a recipe.

    Raises:
        InputError: It cannot be read, or a field is unknown, missing, of the wrong kind or out of
            range, or does not go with another; the message names the field.
    """
    try:
        given = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError("recipe", f"{path} cannot be read: {error}") from error
    except RecursionError:
        raise InputError("recipe", f"{path} cannot be read: it is nested too deeply") from None
    return read_settings(Recipe, given, TAGS)
