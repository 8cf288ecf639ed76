"""Calibrate a checkpoint's scores on questions that it was not trained on.

    python models/mini/training/calibrate.py CHECKPOINT COLLECTION [OTHER ...]

scores BM25's ten best documents for every question of COLLECTION, a folder in BEIR layout. On every
second question it fits a factor and an offset of the logits by logistic regression (Platt scaling:
Platt, Probabilistic Outputs for Support Vector Machines, 1999). Answers and other documents have
the same weight as classes, since how many documents answer depends on the collection. A score is
then the probability that a document answers, if it is as likely an answer as one of the documents
that BM25 takes for one. Factor and offset are written into the checkpoint's classifier; the order
of documents stays the same.

The expected calibration error before and after, with the same weights, goes to standard output as
JSON: on COLLECTION's other questions, and on all questions of each OTHER.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from jina_rerank import LocalScorer, ScoreRequest
from jina_rerank.encoders.checkpoint import write_weights
from jina_rerank.evaluation.collection import Collection, read_beir
from jina_rerank.evaluation.first_stage import bm25

DEPTH = 10
BINS = 10
LONGEST = 512

Floats = NDArray[np.float64]
List = tuple[Floats, Floats]
"""Logits of documents, and for each 1 if it answers the question, else 0."""


def main() -> None:
    """Fit factor and offset, write the checkpoint, and print the errors."""
    parser = argparse.ArgumentParser(description="Calibrate a checkpoint's scores.")
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint; it is changed")
    parser.add_argument("collection", type=Path, help="folder in BEIR layout, to fit on")
    parser.add_argument("other", type=Path, nargs="*", help="others, to measure only")
    given = parser.parse_args()
    checkpoint, folder, others = given.checkpoint, given.collection, given.other
    if not (checkpoint / "config.json").is_file():
        parser.error(f"{checkpoint}: holds no config.json, so it is no checkpoint")
    for other in [folder, *others]:
        if not other.is_dir():
            parser.error(f"{other}: no such folder; pass a collection in BEIR layout")
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    if "quantization" in config:
        parser.error(f"{checkpoint}: is packed; calibrate the checkpoint that it was packed from")
    scorer = LocalScorer(checkpoint, dtype="float32", max_length=LONGEST)
    lists = lists_of(scorer, read_beir(folder))
    factor, offset = platt(*joined(lists[::2]))
    judged = {folder.name: lists[1::2]}
    judged |= {other.name: lists_of(scorer, read_beir(other)) for other in others}
    report = {
        name: {
            "before": calibration_error(logits, labels),
            "after": calibration_error(factor * logits + offset, labels),
        }
        for name, (logits, labels) in ((name, joined(found)) for name, found in judged.items())
    }
    rescale(checkpoint, factor, offset)
    print(json.dumps({"factor": factor, "offset": offset, "error": report}, indent=1))


def lists_of(scorer: LocalScorer, collection: Collection) -> list[List]:
    """Score BM25's best documents for each question of a collection."""
    run = {query: list(found) for query, found in bm25(collection, DEPTH).items() if found}
    answers = scorer.score(
        [
            ScoreRequest(collection.queries[query], [collection.documents[one] for one in found])
            for query, found in run.items()
        ]
    )
    return [
        (
            np.array(answer.logits),
            np.array([float(collection.qrels[query].get(one, 0) > 0) for one in found]),
        )
        for (query, found), answer in zip(run.items(), answers, strict=True)
    ]


def joined(lists: Sequence[List]) -> List:
    """Put the documents of several questions one after another."""
    logits, labels = zip(*lists, strict=True)
    return np.concatenate(logits), np.concatenate(labels)


def balanced(labels: Floats) -> Floats:
    """Compute weights of documents by which answers and others weigh the same; their sum is 1."""
    answers = float(labels.sum())
    return labels * 0.5 / answers + (1 - labels) * 0.5 / (len(labels) - answers)


def platt(logits: Floats, labels: Floats) -> tuple[float, float]:
    """Fit factor and offset by the largest likelihood of the labels, with Newton's method."""
    inputs, weights = np.stack([logits, np.ones_like(logits)]), balanced(labels)
    found = np.zeros(2)
    for _ in range(50):
        scores = sigmoid(found @ inputs)
        gradient = inputs @ (weights * (scores - labels))
        curvature = (inputs * (weights * scores * (1 - scores))) @ inputs.T
        found -= np.linalg.solve(curvature, gradient)
    return float(found[0]), float(found[1])


def sigmoid(logits: Floats) -> Floats:
    """Compute scores from logits."""
    scores: Floats = 1 / (1 + np.exp(-logits))
    return scores


def calibration_error(logits: Floats, labels: Floats) -> float:
    """Compute the expected calibration error, in ten bins of equal width.

    It is the difference between mean score and share of answers in a bin, weighted by the bin's
    size (Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599).
    """
    scores = sigmoid(logits)
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    errors = balanced(labels) * (scores - labels)
    return sum(abs(float(errors[bins == number].sum())) for number in range(BINS))


def rescale(checkpoint: Path, factor: float, offset: float) -> None:
    """Write a factor and an offset of the logits into the classifier of a checkpoint."""
    path = checkpoint / "model.safetensors"
    state: dict[str, Tensor] = load_file(path)
    state["classifier.weight"] = state["classifier.weight"] * factor
    state["classifier.bias"] = state["classifier.bias"] * factor + torch.tensor(offset)
    write_weights(state, path)


if __name__ == "__main__":
    main()
