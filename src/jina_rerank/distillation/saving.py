"""Saving of a student: its checkpoint, its figures on held-out collections, and its model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from .._output import writing
from ..encoders import EncoderModel
from ..evaluation.collection import Collection
from ..evaluation.evaluate import evaluate
from ..evaluation.first_stage import bm25
from ..evaluation.systems import RerankerSystem
from ..reranker import Reranker
from ..scorers.local import LocalScorer
from .card import write_card
from .data.pairs import Source
from .recipe import Recipe
from .training.trainer import cut_log

Figures = dict[str, dict[str, float]]
"""nDCG@10 by collection and system."""


class Saver:
    """Writes the folder `model` and the file `evaluated.jsonl` of an output folder.

    A line of the file is written last, so a step that has one is saved.

    Args:
        recipe: The recipe of the distillation.
        sources: The training data, for the model card.
        collections: Collections on which the student is evaluated.
        tokenizer: The student's tokenizer.
        output: The output folder.

    Attributes:
        folder: Folder of the checkpoint.
    """

    def __init__(
        self,
        recipe: Recipe,
        sources: Sequence[Source],
        collections: Sequence[Collection],
        tokenizer: Tokenizer,
        output: Path,
    ) -> None:
        self.folder = output / "model"
        self._recipe = recipe
        self._sources = sources
        self._collections = collections
        self._tokenizer = tokenizer
        self._log = output / "evaluated.jsonl"

    def resume(self, step: int) -> None:
        """Remove the figures of steps after this one, which are taken again."""
        cut_log(self._log, step)

    def save(self, model: EncoderModel, step: int) -> None:
        """Write a step's checkpoint and card, and evaluate it.

        Raises:
            InputError: A file cannot be written.
        """
        with writing(self.folder):
            self._write_checkpoint(model)
        figures = self._evaluate()
        self._write_card(step, figures)
        cut_log(self._log, step - 1)
        line = {"step": step, **self._settings(), "ndcg@10": figures}
        with writing(self._log), self._log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def finish(self, model: EncoderModel, step: int) -> None:
        """Save the last step if that has not been done: the run may have been killed before it.

        The card is written in any case, since its texts in the recipe may have changed.

        Raises:
            InputError: A file cannot be written.
        """
        figures = self._read_figures(step)
        if figures is None or not self.folder.is_dir():
            self.save(model, step)
        else:
            self._write_card(step, figures)

    def _settings(self) -> dict[str, int]:
        """Return the settings of the evaluation on which the figures of a collection depend."""
        wanted = self._recipe.evaluation
        return {"queries": wanted.queries, "depth": wanted.depth}

    def _read_figures(self, step: int) -> Figures | None:
        """Read a step's figures; None if the recipe's evaluation was not run for that step."""
        lines = self._log.read_text(encoding="utf-8").splitlines() if self._log.is_file() else []
        for found in map(json.loads, lines):
            figures: Figures = found.pop("ndcg@10", {})
            names = {collection.name for collection in self._collections}
            if found == {"step": step, **self._settings()} and figures.keys() == names:
                return figures
        return None

    def _write_checkpoint(self, model: EncoderModel) -> None:
        """Write the checkpoint to another folder, then replace the present one."""
        new = self.folder.with_name("model.new")
        try:
            self._recipe.student.save(model, self._tokenizer, new)
        except Exception as error:  # safetensors and tokenizers have errors of their own
            raise OSError(str(error)) from error
        shutil.rmtree(self.folder, ignore_errors=True)
        new.replace(self.folder)

    def _write_card(self, step: int, figures: Figures) -> None:
        with writing(self.folder):
            write_card(self.folder, self._recipe, self._sources, step, figures)

    def _evaluate(self) -> Figures:
        depth = self._recipe.evaluation.depth
        figures: Figures = {}
        for collection in self._collections:
            # A new scorer each time: a shared one would keep the previous weights.
            with Reranker(LocalScorer(self.folder)) as reranker:
                found = evaluate(
                    collection,
                    bm25(collection, depth),
                    [RerankerSystem(reranker, name="student")],
                    depth=depth,
                    measures=("nDCG@10",),
                )
            figures[collection.name] = {
                result.name: result.measured.means["nDCG@10"] for result in found.results
            }
        return figures
