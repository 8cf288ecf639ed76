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
import shutil
from collections.abc import Sequence
from glob import glob
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ..errors import InputError
from ..evaluation.collection import Collection, read_beir
from ..evaluation.evaluate import evaluate
from ..evaluation.first_stage import bm25
from ..evaluation.systems import RerankerSystem
from ..jinabert import JinaBert, PairTokenizer
from ..jinabert.checkpoint import save_checkpoint
from ..jinabert.files import find_checkpoint
from ..reranker import Reranker
from ..scorers.cross_encoder import CrossEncoderScorer
from ..scorers.local import LocalScorer
from ..scorers.remote import RemoteScorer
from .boards import tensorboard
from .card import write_card
from .conversion import convert_bert
from .data import TrainingPair, by_source, read_pairs
from .healing import Healing
from .objective import ListObjective
from .prepared import Prepared, prepare_lists, teach
from .recipe import Recipe, TeacherRecipe
from .teachers import Bm25Teacher, EmbeddingTeacher, ScorerTeacher, Teacher
from .trainer import Settings, Trainer

logger = logging.getLogger(__name__)

Figures = dict[str, dict[str, float]]
"""nDCG@10 by collection and system."""


def distill(
    recipe: Recipe, output: Path, *, until: int | None = None, progress: bool = False
) -> Path:
    """Prepare, heal, train, evaluate, save.

    Args:
        recipe: What to do.
        output: Where everything goes; a run that is there is taken up.
        until: Stop before this step of the training, to go on another day.
        progress: Show bars on standard error.

    Returns:
        The checkpoint's folder.

    Raises:
        InputError: A file of the recipe cannot be used.
        ConfigurationError: The folder holds another run's state.
        RerankError: As a teacher.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sources = by_source(_read_all(recipe.data.pairs))
    # Before hours are spent on teachers.
    if unknown := set(recipe.data.weights) - {source.name for source in sources}:
        raise InputError("recipe", f"data.weights: no such source: {sorted(unknown)}")
    collections = _read_collections(recipe)
    passages, lists = prepare_lists(
        sources, output / "prepared", seed=recipe.data.seed, progress=progress
    )
    scores = {
        one.name: teach(
            one.name,
            _teacher(one, passages),
            passages,
            lists,
            output / "prepared",
            progress=progress,
        )
        for one in recipe.teacher
    }
    model, tokenizer = _student(recipe, passages, output, device, progress)
    objective = ListObjective(
        Prepared(passages, lists, scores),
        {one.name: one.weight for one in recipe.teacher},
        PairTokenizer(Tokenizer.from_str(tokenizer.to_str())),
        recipe.lists,
        source_weights=recipe.data.weights,
        device=device,
    )
    folder = output / "model"

    saved: list[int] = []

    def save(step: int) -> None:
        saved.append(step)
        figures = _save(trainer.model, tokenizer, folder, collections, recipe)
        write_card(folder, recipe, sources, step, figures)
        if figures:
            line = json.dumps({"step": step, "ndcg@10": figures})
            with (output / "evaluated.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    trainer = Trainer(model, objective, recipe.training, output / "training", save)
    with tensorboard(output / "tensorboard") as write:
        trainer.run(until=until, progress=progress, on_step=write)
    if trainer.step not in saved:
        # The run that took the last step may have been killed before it wrote the model.
        save(trainer.step)
    return folder


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
    return [read_beir(Path(folder)).take(wanted.queries) for folder in wanted.collections]


def _teacher(recipe: TeacherRecipe, passages: Sequence[str]) -> Teacher:
    if recipe.model is not None:
        return ScorerTeacher(LocalScorer(recipe.model))
    if recipe.cross_encoder is not None:
        return ScorerTeacher(CrossEncoderScorer(recipe.cross_encoder))
    if recipe.remote is not None:
        return ScorerTeacher(RemoteScorer(model=recipe.remote))
    if recipe.embedding is not None:
        return EmbeddingTeacher(
            recipe.embedding,
            query_prompt=recipe.query_prompt,
            passage_prompt=recipe.passage_prompt,
        )
    return Bm25Teacher(passages)


def _student(
    recipe: Recipe, passages: Sequence[str], output: Path, device: str, progress: bool
) -> tuple[JinaBert, Tokenizer]:
    """The student before its training, healed if it was converted."""
    student, healing = recipe.student, recipe.healing
    if student.shape is not None:
        assert student.tokenizer is not None
        torch.manual_seed(student.seed)
        return JinaBert(student.shape).to(device), Tokenizer.from_file(student.tokenizer)
    if student.checkpoint is not None:
        files = find_checkpoint(student.checkpoint)
        model = JinaBert.from_pretrained(files.config.parent)
        return model.to(device), Tokenizer.from_file(str(files.tokenizer))
    assert student.convert is not None
    original = Path(student.convert)
    model, tokenizer = convert_bert(original, seed=student.seed)
    model = model.to(device)
    if healing is not None:
        objective = Healing(
            original,
            Tokenizer.from_str(tokenizer.to_str()),
            passages,
            tokens_per_step=healing.tokens_per_step,
            dtype=recipe.training.dtype,
            seed=student.seed,
            device=device,
        )
        settings = Settings(
            steps=healing.steps,
            learning_rate=healing.learning_rate,
            warm_up=healing.warm_up,
            decay=healing.decay,
            dtype=recipe.training.dtype,
        )
        Trainer(model, objective, settings, output / "healing").run(progress=progress)
    return model, tokenizer


def _save(
    model: JinaBert,
    tokenizer: Tokenizer,
    folder: Path,
    collections: Sequence[Collection],
    recipe: Recipe,
) -> Figures:
    """Write the checkpoint, whole or not at all, and evaluate what was written."""
    new = folder.with_name("model.new")
    save_checkpoint(model, tokenizer, new)
    shutil.rmtree(folder, ignore_errors=True)
    new.replace(folder)
    figures: Figures = {}
    for collection in collections:
        # A scorer of its own each time: one that is shared would remember the weights before.
        with Reranker(LocalScorer(folder)) as reranker:
            found = evaluate(
                collection,
                bm25(collection),
                [RerankerSystem(reranker, name="student")],
                depth=recipe.evaluation.depth,
                measures=("nDCG@10",),
            )
        figures[collection.name] = {
            result.name: result.measured.means["nDCG@10"] for result in found.results
        }
    return figures
