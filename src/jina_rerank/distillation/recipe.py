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
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from .._lines import read_text
from ..errors import InputError
from .data.cache import digest_sources
from .data.pairs import Source
from .digests import digest
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
        queries: Maximum number of queries of each source, drawn at random; None for all. Teachers
            score the lists of all these queries, and a step uses a few of them. All passages are
            kept.
        weights: Relative frequency of each source's lists; 1 for sources that are not named.
        seed: Seed of the choice of queries and of negatives.
    """

    pairs: Annotated[Texts, AfterValidator(_check_any)]
    queries: Count | None = None
    weights: dict[str, NotNegative] = Field(default_factory=dict)
    seed: Seed = 0


class EvaluationSettings(Settings):
    """Settings of the evaluation, which runs whenever the state is saved.

    Attributes:
        collections: Folders of collections in BEIR layout, which must not be in the training data.
        queries: Maximum number of queries of each collection.
        depth: Number of BM25's best documents to rerank.
    """

    collections: Texts = ()
    queries: Count = 50
    depth: Count = 50


class CardSettings(Settings):
    """Texts of the model card, which cannot be measured.

    Attributes:
        name: Name of the model.
        license: SPDX identifier of the model's license.
        data: Description of the data and its licences, in Markdown.
    """

    name: str = "a reranker"
    license: str = "other"
    data: str = ""


class Recipe(Settings):
    """The recipe of a distillation; see `read_recipe`.

    Attributes:
        student: The student, as it is initialized.
        data: Training data.
        teacher: Teachers.
        training: Settings of the training.
        ranking: Settings of the ranking losses and lists.
        evaluation: Settings of the evaluation during training.
        card: Texts of the model card.
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

    def identity(self, sources: Sequence[Source]) -> dict[str, str]:
        """Describe the parts that determine the lists, the scores and the student, by their names.

        The student's files and the pairs count by their contents, so they may be moved; teachers
        count by their fields. Left out are the other settings of `training`, which `Trainer`
        compares itself, and what does not change the student.

        Args:
            sources: The training data, as read from the files.
        """
        data = self.data
        return {
            "student": self.student.identity,
            "data": digest(digest_sources(sources, data.seed), sorted(data.weights.items())),
            "teacher": digest(*self.teacher),
            "ranking": digest(self.ranking),
            # Teachers compute in it too.
            "training.dtype": str(self.training.dtype),
        }


def read_recipe(path: Path) -> Recipe:
    """Read and validate a recipe.

    Raises:
        InputError: The file cannot be read, or a field is unknown, missing, of the wrong type or
            out of range, or conflicts with another; the message names the field.
    """
    try:
        given = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError("recipe", f"{path} is not TOML: {error}") from error
    except RecursionError:
        raise InputError("recipe", f"{path} cannot be read: it is nested too deeply") from None
    return read_settings(Recipe, given, TAGS)
