"""Knowledge distillation of small rerankers from larger ones. Requires the extra `distill`.

    >>> from pathlib import Path
    >>> from jina_rerank.distillation import distill, read_recipe
    >>> recipe = read_recipe(Path("models/mini/training/recipe.toml"))
    >>> [teacher.name for teacher in recipe.teacher]
    ['minilm', 'bm25']

`data` reads pairs and mines lists, `students` initializes a model, and `training` trains it.
`recipe` has all settings, and `run` executes a recipe.
"""

from .data.negatives import CandidateList, mine
from .data.pairs import Source, TrainingPair, read_pairs
from .recipe import Recipe, read_recipe
from .run import distill
from .students import BiToCrossStudent, CheckpointStudent, ConvertedStudent, FreshStudent
from .students.bi_to_cross.convert import convert_to_cross_encoder
from .students.converted import convert_bert
from .students.student import Material, Stage, Student
from .teachers import TeacherSettings, mix
from .training.losses import contrastive, listwise_kl, margin_mse, pointwise
from .training.matching import EncoderMatching, MatchingSettings
from .training.ranking import RankingObjective, RankingSettings
from .training.trainer import Objective, Trainer, TrainingSettings

__all__ = [
    "BiToCrossStudent",
    "CandidateList",
    "CheckpointStudent",
    "ConvertedStudent",
    "EncoderMatching",
    "FreshStudent",
    "MatchingSettings",
    "Material",
    "Objective",
    "RankingObjective",
    "RankingSettings",
    "Recipe",
    "Source",
    "Stage",
    "Student",
    "TeacherSettings",
    "Trainer",
    "TrainingPair",
    "TrainingSettings",
    "contrastive",
    "convert_bert",
    "convert_to_cross_encoder",
    "distill",
    "listwise_kl",
    "margin_mse",
    "mine",
    "mix",
    "pointwise",
    "read_pairs",
    "read_recipe",
]
