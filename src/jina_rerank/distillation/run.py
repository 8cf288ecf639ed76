"""`distill`: train a student by a recipe and save it as a checkpoint folder.

    OUTPUT/prepared/       candidate lists and teachers' scores
    OUTPUT/matching/       state and log of a stage that the student has before ranking
    OUTPUT/training/       state and log of ranking
    OUTPUT/evaluated.jsonl figures on held-out collections, one line per saved model
    OUTPUT/model/          the checkpoint for `LocalScorer`, with a model card

Finished parts are not done again, so the same call resumes a run that was killed. The states hold
the run's identity, see `Recipe.identity`, and no run resumes another one's.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from glob import glob
from pathlib import Path

from tokenizers import Tokenizer

from .._inputs import check_positive
from .._output import held
from ..encoders import PairTokenizer
from ..errors import InputError
from ..evaluation.collection import Collection, read_beir
from ..scorers.device import choose_device
from .data.cache import Prepared, digest_scores, prepare_lists, teach
from .data.negatives import CandidateList
from .data.pairs import Source, TrainingPair, by_source, read_pairs, with_fewer_queries
from .recipe import Recipe
from .saving import Saver
from .students.student import Material, Student
from .teachers import check_teacher, load_teacher
from .training.memory import return_freed_memory
from .training.ranking import AuxiliaryLoss, RankingObjective, RankingSettings
from .training.tensorboard import tensorboard
from .training.trainer import Trainer, check_same_run

logger = logging.getLogger(__name__)


def distill(
    recipe: Recipe, output: Path, *, until: int | None = None, progress: bool = False
) -> Path:
    """Prepare the data, train a student, evaluate it and save it.

    Args:
        recipe: The recipe.
        output: Output folder; a run in it is resumed. Only one call may use it at a time.
        until: Step of the training before which to stop, at least 1, to continue later.
        progress: True to show progress bars on standard error.

    Returns:
        Folder of the checkpoint.

    Raises:
        InputError: A file of the recipe cannot be used, its pairs are longer than the student can
            read, or `output` cannot be written.
        ConfigurationError: A model of the recipe cannot be loaded, or the folder holds another
            run's state or is being written to by another run.
        RerankError: A teacher's errors.
    """
    if until is not None:
        until = check_positive(until, "until")
    with held(output):
        return _distill(recipe, output, until, progress)


def _distill(recipe: Recipe, output: Path, until: int | None, progress: bool) -> Path:
    device = choose_device("auto")
    student: Student = recipe.student
    dtype = recipe.training.dtype
    # All inputs are checked first: mining takes minutes, and teachers take hours.
    sources = _read_sources(recipe)
    collections = _read_collections(recipe)
    ranking = recipe.ranking.within(student.check())
    recipe = recipe.model_copy(update={"ranking": ranking})
    for one in recipe.teacher:
        check_teacher(one, dtype)
    identity = recipe.identity(sources)
    # Now: preparation replaces the lists and scores of another run.
    check_same_run(output, identity)
    prepared = _prepare(recipe, sources, output / "prepared", progress=progress)
    identity["teacher scores"] = digest_scores(prepared.scores)
    examples = _examples(prepared, student)
    model, tokenizer = student.build(examples)
    # Fitting a student's layers takes more memory than training them.
    return_freed_memory()
    model = model.to(device)
    masks = student.masks(model)
    objective_of = _ranking_objectives(recipe, prepared, tokenizer, device)
    material = Material(
        prepared.passages, examples, tokenizer, device, dtype, recipe.ranking, objective_of
    )
    for stage in student.stages(material):
        Trainer(
            model,
            stage.objective,
            stage.settings,
            output / stage.name,
            masks=masks,
            identity=identity,
        ).run(progress=progress)
        if stage.finish is not None:
            stage.finish(model)
    objective = objective_of(recipe.ranking, student.auxiliary_loss(material))
    saver = Saver(recipe, sources, collections, tokenizer, output)
    trainer = Trainer(
        model,
        objective,
        recipe.training,
        output / "training",
        lambda step: saver.save(model, step),
        masks=masks,
        identity=identity,
    )
    saver.resume(trainer.step)
    with tensorboard(output / "tensorboard") as write:
        trainer.run(until=until, progress=progress, on_step=write)
    saver.finish(model, trainer.step)
    return saver.folder


def _prepare(
    recipe: Recipe, sources: Sequence[Source], folder: Path, *, progress: bool
) -> Prepared:
    """Prepare the candidate lists and each teacher's scores of them."""
    passages, lists = prepare_lists(sources, folder, seed=recipe.data.seed, progress=progress)
    scores = {
        one.name: teach(
            one.name,
            load_teacher(one, passages, recipe.training.dtype),
            passages,
            lists,
            folder,
            progress=progress,
        )
        for one in recipe.teacher
    }
    return Prepared(passages, lists, scores)


def _ranking_objectives(
    recipe: Recipe, prepared: Prepared, tokenizer: Tokenizer, device: str
) -> Callable[[RankingSettings, AuxiliaryLoss | None], RankingObjective]:
    """Return a function that builds objectives over the candidate lists."""
    pairs = PairTokenizer(Tokenizer.from_str(tokenizer.to_str()))
    weights = {one.name: one.weight for one in recipe.teacher}

    def objective_of(
        settings: RankingSettings, auxiliary: AuxiliaryLoss | None
    ) -> RankingObjective:
        return RankingObjective(
            prepared,
            weights,
            pairs,
            settings,
            source_weights=recipe.data.weights,
            auxiliary=auxiliary,
            device=device,
        )

    return objective_of


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


def _examples(prepared: Prepared, student: Student) -> list[tuple[str, str]]:
    """Draw the queries with answers that the student is built with."""
    lists: Sequence[CandidateList] = prepared.lists
    some = random.Random(student.seed).sample(lists, min(len(lists), student.examples))
    return [(one.query, prepared.passages[one.passages[0]]) for one in some]
