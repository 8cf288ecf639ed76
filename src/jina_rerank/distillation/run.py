"""`distill`: from a recipe to a checkpoint folder.

    OUTPUT/prepared/       candidate lists and teachers' scores
    OUTPUT/healing/        state and log of the first stage, for a converted student
    OUTPUT/training/       state and log of the second
    OUTPUT/evaluated.jsonl figures on held-out collections, a line a saved state
    OUTPUT/model/          what `LocalScorer` loads, with a model card

Whatever is finished there is not done again, so a run that was killed is taken up by the same call.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor

from .._inputs import check_positive
from .._output import held, writing
from ..encoders import JinaBert
from ..encoders.checkpoint import save_checkpoint
from ..errors import InputError
from ..evaluation.collection import Collection, read_beir
from ..evaluation.evaluate import evaluate
from ..evaluation.first_stage import bm25
from ..evaluation.systems import RerankerSystem
from ..reranker import Reranker
from ..scorers.device import choose_device
from ..scorers.local import LocalScorer
from .boards import tensorboard
from .card import write_card
from .data import Source, TrainingPair, by_source, read_pairs, with_fewer_queries
from .mining import CandidateList
from .models import check_teacher, fit_again, load_comparing, load_student, load_teacher
from .prepared import Prepared, prepare_lists, teach
from .recipe import Recipe, StudentRecipe
from .stages import Stages
from .trainer import Objective, Settings, Trainer
from .widening import learned

logger = logging.getLogger(__name__)

EXAMPLES = 1536
"""Number of pairs to watch an encoder on, and to fit it to, if its student compares."""

Figures = dict[str, dict[str, float]]
"""nDCG@10 by collection and system."""


def distill(
    recipe: Recipe, output: Path, *, until: int | None = None, progress: bool = False
) -> Path:
    """Prepare, heal, train, evaluate, save.

    Args:
        recipe: What to do.
        output: Where everything goes; a run that is there is taken up. One call at a time.
        until: Stop before this step of the training, at least 1, to go on another day.
        progress: Show bars on standard error.

    Returns:
        The checkpoint's folder.

    Raises:
        InputError: A file of the recipe cannot be used, or `output` cannot be written.
        ConfigurationError: A model of the recipe cannot be loaded, or the folder holds another
            run's state or is being written to by one.
        RerankError: As a teacher.
    """
    if until is not None:
        until = check_positive(until, "until")
    with held(output):
        return _distill(recipe, output, until, progress)


def _distill(recipe: Recipe, output: Path, until: int | None, progress: bool) -> Path:
    device = choose_device("auto")
    # Whatever may be missing is looked for first: mining takes minutes, and teachers hours.
    sources = _read_sources(recipe)
    collections = _read_collections(recipe)
    model, tokenizer = load_student(recipe.student)
    for one in recipe.teacher:
        check_teacher(one, recipe.training.dtype)
    prepared = output / "prepared"
    passages, lists = prepare_lists(sources, prepared, seed=recipe.data.seed, progress=progress)
    scores = {
        one.name: teach(
            one.name,
            load_teacher(one, passages, recipe.training.dtype),
            passages,
            lists,
            prepared,
            progress=progress,
        )
        for one in recipe.teacher
    }
    examples = _examples(passages, lists, recipe)
    if recipe.student.compare:
        model, tokenizer = load_comparing(recipe.student, examples)
    model = model.to(device)
    stages = Stages(recipe, Prepared(passages, lists, scores), tokenizer, device)
    if (healing := stages.healing()) is not None:
        _heal(recipe, model, healing, output / "healing", progress=progress)
        if recipe.student.compare:
            fit_again(model, tokenizer, recipe.student, examples)
    objective = stages.ranking()
    folder = output / "model"

    saved: list[int] = []

    def save(step: int) -> None:
        saved.append(step)
        with writing(folder):
            _save(trainer.model, tokenizer, folder)
        figures = _evaluate(folder, collections, recipe.evaluation.depth)
        with writing(output):
            write_card(folder, recipe, sources, step, figures)
            if figures:
                line = json.dumps({"step": step, "ndcg@10": figures})
                with (output / "evaluated.jsonl").open("a", encoding="utf-8") as file:
                    file.write(line + "\n")

    trainer = Trainer(
        model,
        objective,
        recipe.training,
        output / "training",
        save,
        learned=_learned(recipe.student, model),
        student=_layers_of(recipe.student),
    )
    with tensorboard(output / "tensorboard") as write:
        trainer.run(until=until, progress=progress, on_step=write)
    if trainer.step not in saved:
        # The run that took the last step may have been killed before it wrote the model.
        save(trainer.step)
    return folder


def _read_sources(recipe: Recipe) -> list[Source]:
    sources = by_source(_read_all(recipe.data.pairs))
    weights = recipe.data.weights
    if unknown := set(weights) - {source.name for source in sources}:
        raise InputError("recipe", f"data.weights: no such source: {sorted(unknown)}")
    if sources and not any(weights.get(source.name, 1.0) for source in sources):
        raise InputError("recipe", "data.weights: all are 0, so nothing is drawn")
    if recipe.data.queries is None:
        return sources
    return [with_fewer_queries(source, recipe.data.queries, recipe.data.seed) for source in sources]


def _read_all(patterns: Sequence[str]) -> list[TrainingPair]:
    pairs: list[TrainingPair] = []
    for pattern in patterns:
        found = sorted(glob(pattern, recursive=True))  # noqa: PTH207 - may be absolute
        if not found:
            raise InputError("pairs", f"no file is called {pattern}")
        for path in found:
            pairs += read_pairs(Path(path))
    return pairs


def _read_collections(recipe: Recipe) -> list[Collection]:
    wanted = recipe.evaluation
    found: dict[str, Collection] = {}
    for folder in wanted.collections:
        collection = read_beir(Path(folder)).take(wanted.queries)
        if collection.name in found:
            raise InputError(
                "recipe",
                f"evaluation.collections: two are called {collection.name!r}; rename a folder",
            )
        found[collection.name] = collection
    return list(found.values())


def _examples(
    passages: Sequence[str], lists: Sequence[CandidateList], recipe: Recipe
) -> list[tuple[str, str]]:
    """Some queries with their answers."""
    chance = random.Random(recipe.student.seed)
    some = chance.sample(lists, min(len(lists), EXAMPLES))
    return [(one.query, passages[one.passages[0]]) for one in some]


def _heal(
    recipe: Recipe,
    model: JinaBert,
    objective: Objective[Any],
    folder: Path,
    *,
    progress: bool,
) -> None:
    """Get a converted student used to what is new to it, in place."""
    healing = recipe.healing
    assert healing is not None
    settings = Settings(
        steps=healing.steps,
        learning_rate=healing.learning_rate,
        warm_up=healing.warm_up,
        decay=healing.decay,
        dtype=recipe.training.dtype,
    )
    trainer = Trainer(
        model,
        objective,
        settings,
        folder,
        learned=_learned(recipe.student, model),
        student=_layers_of(recipe.student),
    )
    trainer.run(progress=progress)


def _learned(student: StudentRecipe, model: JinaBert) -> Mapping[str, Tensor] | None:
    return learned(model.config) if student.compare else None


def _layers_of(student: StudentRecipe) -> str | None:
    """Settings that decide a conversion's result and are not seen in its weights' shapes."""
    return None if student.layers is None else f"layers {list(student.layers)}"


def _save(model: JinaBert, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the checkpoint, whole or not at all."""
    new = folder.with_name("model.new")
    try:
        save_checkpoint(model, tokenizer, new)
    except Exception as error:  # safetensors and tokenizers have errors of their own
        raise OSError(str(error)) from error
    shutil.rmtree(folder, ignore_errors=True)
    new.replace(folder)


def _evaluate(folder: Path, collections: Sequence[Collection], depth: int) -> Figures:
    figures: Figures = {}
    for collection in collections:
        # A scorer of its own each time: one that is shared would remember the weights before.
        with Reranker(LocalScorer(folder)) as reranker:
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
