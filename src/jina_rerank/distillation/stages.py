"""The two stages of a distillation: healing, and then ranking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..encoders import PairTokenizer
from .healing import Healing
from .imitation import Original
from .objective import ListObjective, ListSettings
from .prepared import Prepared
from .recipe import HealingRecipe, Recipe
from .trainer import Objective


@dataclass(frozen=True)
class Stages:
    """The objectives of a recipe.

    Attributes:
        recipe: What to do.
        prepared: Lists and scores.
        tokenizer: The student's.
        device: The student's.
    """

    recipe: Recipe
    prepared: Prepared
    tokenizer: Tokenizer
    device: str

    def healing(self) -> Objective[Any] | None:
        """The first stage, for a converted student: what its original knows.

        A student that compares learns it in pairs, on the lists of the second stage, of which
        nothing else is learned yet.
        """
        recipe, healing = self.recipe, self.recipe.healing
        if healing is None:
            return None
        if recipe.student.compare:
            decay_from = max(0, healing.steps - healing.decay)
            return self._lists(_imitating(recipe.lists, healing), decay_from)
        return Healing(
            self._original,
            Tokenizer.from_str(self.tokenizer.to_str()),
            self.prepared.passages,
            tokens_per_step=healing.tokens_per_step,
            seed=recipe.student.seed,
            device=self.device,
        )

    def ranking(self) -> ListObjective:
        """The second stage.

        Raises:
            InputError: No list is left to learn from.
        """
        return self._lists(self.recipe.lists, self.recipe.training.decay_from)

    def _lists(self, settings: ListSettings, decay_from: int) -> ListObjective:
        return ListObjective(
            self.prepared,
            {one.name: one.weight for one in self.recipe.teacher},
            self._pairs,
            settings,
            source_weights=self.recipe.data.weights,
            decay_from=decay_from,
            imitation=self._original if settings.imitation else None,
            device=self.device,
        )

    @cached_property
    def _pairs(self) -> PairTokenizer:
        return PairTokenizer(Tokenizer.from_str(self.tokenizer.to_str()))

    @cached_property
    def _original(self) -> Original:
        student = self.recipe.student
        assert student.convert is not None  # by check_recipe
        return Original(
            Path(student.convert).expanduser(),
            layers=student.layers,
            dtype=self.recipe.training.dtype,
            device=self.device,
        )


def _imitating(lists: ListSettings, healing: HealingRecipe) -> ListSettings:
    return replace(
        lists,
        kl=0.0,
        margin_mse=0.0,
        contrastive=0.0,
        pointwise=0.0,
        imitation=1.0,
        tokens_per_step=healing.tokens_per_step,
    )
