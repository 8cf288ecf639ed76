"""Teachers: scorers that say how well passages answer a query, and the mix of several."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator

from ..errors import ConfigurationError, ScoringError
from ..scorers.base import CacheableScorer, Scorer, ScoreRequest
from ..scorers.device import Dtype
from ..scorers.local import find_model
from ..spec import EMBEDDING, collection_scorer_of, has_option, parse
from .settings import MoreThan0, Settings, naming, refuse, refuse_field

Question = tuple[str, Sequence[str]]
"""A query and passages."""


class TeacherSettings(Settings):
    """One teacher.

    Attributes:
        name: Its folder's among the scores.
        model: A model's name, as for `collection_scorer_of`: `bm25`, `bi-encoder:NAME`,
            `sparse-encoder:NAME` or a reranker; the key of a service is in JINA_API_KEY.
        weight: In the mix.
        query_prompt: What an encoder reads before a query; None is the model's own prompt.
        passage_prompt: What it reads before a passage; None likewise.
    """

    name: str
    model: str
    weight: MoreThan0 = 1.0
    query_prompt: str | None = None
    passage_prompt: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        # It becomes a folder's.
        if not re.fullmatch(r"[^./\\\0][^/\\\0]*", self.name):
            raise refuse_field("name", f"must be able to name a folder, not {self.name!r}")
        try:
            kind = parse(self.model).kind
        except ConfigurationError as error:
            raise refuse_field("model", str(error).removeprefix("model: ")) from None
        if kind not in EMBEDDING and (self.query_prompt, self.passage_prompt) != (None, None):
            raise refuse("query_prompt and passage_prompt are for encoders; leave them out")
        return self


def load_teacher(teacher: TeacherSettings, passages: Sequence[str], dtype: torch.dtype) -> Scorer:
    """A teacher's scorer, which reads its model when it is first asked.

    Args:
        teacher: Which one.
        passages: All that it may be asked for.
        dtype: What models on this machine compute in.

    Raises:
        ConfigurationError: Its name cannot be read; the message names the field.
        AuthenticationError: There is no key for the service.
    """
    named: Dtype = "float32" if dtype is torch.float32 else "bfloat16"
    with naming(f"teacher {teacher.name}.model"):
        spec = parse(teacher.model)
        return collection_scorer_of(
            spec,
            tuple(dict.fromkeys(passages)),
            dtype=named if has_option(spec, "dtype") else None,
            # A vector of a whole passage says less than those of its windows.
            long_documents="chunk" if spec.kind in EMBEDDING else None,
            query_prompt=teacher.query_prompt,
            passage_prompt=teacher.passage_prompt,
        )


def check_teacher(teacher: TeacherSettings, dtype: torch.dtype) -> None:
    """See that a teacher can be had, downloaded if need be.

    Others than native models are loaded for that and let go, since only one at a time has to fit
    into memory.

    Args:
        teacher: Which one.
        dtype: As for `load_teacher`.

    Raises:
        ConfigurationError: It cannot be had; the message names the field.
        AuthenticationError: There is no key for the service.
    """
    scorer = load_teacher(teacher, (), dtype)
    spec = parse(teacher.model)
    with naming(f"teacher {teacher.name}.model"):
        if spec.kind in {"embedded", "local"}:
            find_model(spec.name)
        elif spec.runs_here:
            scorer.warm_up()


def ask(teacher: Scorer, questions: Sequence[Question]) -> list[list[float]]:
    """A teacher's scores: one for each passage of each question, higher is better.

    They are logits where the scorer has them, since near 1 scores lie too close together to learn
    an order from.

    Args:
        teacher: Asked for the passages of many queries at a time.
        questions: Queries with their passages.

    Raises:
        ScoringError: An answer is degraded.
        RerankError: As the scorer.
    """
    answers = teacher.score([ScoreRequest(query, texts) for query, texts in questions])
    for (query, _), answer in zip(questions, answers, strict=True):
        if answer.degraded is not None:
            raise ScoringError(
                f"{teacher.model}: the answer to {query!r} is degraded, which nobody is "
                f"to learn from: {answer.degraded}"
            )
    return [list(a.scores if a.logits is None else a.logits) for a in answers]


def fingerprint_of(teacher: Scorer) -> str:
    """All that decides a teacher's scores beside the texts; its model's name where that is all."""
    return teacher.fingerprint if isinstance(teacher, CacheableScorer) else teacher.model


def mix(
    scores: Mapping[str, Sequence[float]], weights: Mapping[str, float], length: int
) -> NDArray[np.float32]:
    """The weighted mean of several teachers' scores for one list.

    Teachers have scales of their own, so each one's scores are first brought to mean 0 and
    standard deviation 1 over the list; a teacher that tells no difference says nothing.

    Args:
        scores: By teacher.
        weights: By teacher; without one all is 0.
        length: Length of the list.
    """
    total = np.zeros(length, dtype=np.float32)
    for name, weight in weights.items():
        own = np.asarray(scores[name], dtype=np.float32)
        spread = float(own.std())
        if spread > 0:
            total += weight / sum(weights.values()) * (own - own.mean()) / spread
    return total
