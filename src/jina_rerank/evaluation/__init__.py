"""Evaluation of rerankers on judged collections.

    >>> from jina_rerank import Reranker
    >>> from jina_rerank.evaluation import RerankerSystem, bm25, evaluate, load_collection
    >>> coffee = load_collection("examples/data/coffee").take(20)
    >>> evaluation = evaluate(coffee, bm25(coffee), [RerankerSystem(Reranker(), name="mini")])
    >>> evaluation.compare("first-stage", "mini").wins
    9

Needs the extra `eval`. The command is `jina-rerank eval`.
"""

from .collection import Collection, load_collection, read_beir
from .evaluate import evaluate
from .first_stage import Run, bm25, read_candidates, read_first_stage, read_run, write_run
from .measures import (
    DEFAULT_MEASURES,
    Measured,
    PairedTest,
    confidence_interval,
    measure,
    paired_test,
    ratio_interval,
)
from .qrels import Qrels
from .results import Cost, Evaluation, SystemResult
from .systems import (
    Candidates,
    FirstStageSystem,
    MixedSystem,
    RerankerSystem,
    System,
    SystemScores,
)
from .thresholds import WANTED_PRECISION, ThresholdChoice, ThresholdPoint, choose_threshold

__all__ = [
    "DEFAULT_MEASURES",
    "WANTED_PRECISION",
    "Candidates",
    "Collection",
    "Cost",
    "Evaluation",
    "FirstStageSystem",
    "Measured",
    "MixedSystem",
    "PairedTest",
    "Qrels",
    "RerankerSystem",
    "Run",
    "System",
    "SystemResult",
    "SystemScores",
    "ThresholdChoice",
    "ThresholdPoint",
    "bm25",
    "choose_threshold",
    "confidence_interval",
    "evaluate",
    "load_collection",
    "measure",
    "paired_test",
    "ratio_interval",
    "read_beir",
    "read_candidates",
    "read_first_stage",
    "read_run",
    "write_run",
]
