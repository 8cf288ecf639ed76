"""Teachers: scorers of passages for queries, and the mix of several teachers' scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator

from ..errors import ConfigurationError, ScoringError
from ..scorers.base import Scorer, ScoreRequest
from ..scorers.device import Dtype
from ..scorers.local import find_model
from ..spec import EMBEDDING, collection_scorer_of, has_option, parse
from .settings import MoreThan0, Settings, naming, refuse, refuse_field

Question = tuple[str, Sequence[str]]
"""A query and passages."""


class TeacherSettings(Settings):
    """Settings of one teacher.

    Attributes:
        name: Name of the teacher, and of its folder of scores.
        model: A model's name, as for `collection_scorer_of`: `bm25`, `bi-encoder:NAME`,
            `sparse-encoder:NAME` or a reranker; the key of a service is in JINA_API_KEY.
        weight: Weight in the mix of teachers.
        query_prompt: Prompt that an encoder reads before a query; None for the model's prompt.
        passage_prompt: Prompt that an encoder reads before a passage; None for the model's prompt.
    """

    name: str
    model: str
    weight: MoreThan0 = 1.0
    query_prompt: str | None = None
    passage_prompt: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        # It becomes a folder's name.
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
    """Create a teacher's scorer, which loads its model at the first request.

    Args:
        teacher: Settings of the teacher.
        passages: All passages that the teacher may have to score.
        dtype: Data type of models on this machine.

    Raises:
        ConfigurationError: The model's name is invalid; the message names the field.
        AuthenticationError: There is no key for the service.
    """
    named: Dtype = "float32" if dtype is torch.float32 else "bfloat16"
    with naming(f"teacher {teacher.name}.model"):
        spec = parse(teacher.model)
        return collection_scorer_of(
            spec,
            tuple(dict.fromkeys(passages)),
            dtype=named if has_option(spec, "dtype") else None,
            # One vector of a long passage holds less than the vectors of its windows.
            long_documents="chunk" if spec.kind in EMBEDDING else None,
            query_prompt=teacher.query_prompt,
            passage_prompt=teacher.passage_prompt,
        )


def check_teacher(teacher: TeacherSettings, dtype: torch.dtype) -> None:
    """Check that a teacher can be loaded; download it if necessary.

    Models that are not native are loaded for the check and released, since only one at a time has
    to fit into memory.

    Args:
        teacher: Settings of the teacher.
        dtype: As for `load_teacher`.

    Raises:
        ConfigurationError: The teacher cannot be loaded; the message names the field.
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
    """Compute a teacher's scores, one for each passage of each question; higher is better.

    They are logits if the scorer has them, since scores near 1 are too close together to learn an
    order from.

    Args:
        teacher: The teacher, which scores many queries' passages at a time.
        questions: Queries with their passages.

    Raises:
        ScoringError: An answer is degraded.
        RerankError: The scorer's errors.
    """
    answers = teacher.score([ScoreRequest(query, texts) for query, texts in questions])
    for (query, _), answer in zip(questions, answers, strict=True):
        if answer.degraded is not None:
            raise ScoringError(
                f"{teacher.model}: the answer to {query!r} is degraded, which nobody is "
                f"to learn from: {answer.degraded}"
            )
    return [list(a.scores if a.logits is None else a.logits) for a in answers]


def mix(
    scores: Mapping[str, Sequence[float]], weights: Mapping[str, float], length: int
) -> NDArray[np.float32]:
    """Compute the weighted mean of several teachers' scores for one list.

    Teachers have different scales, so each teacher's scores are first standardized to mean 0 and
    standard deviation 1 over the list. A teacher with equal scores for all passages adds nothing.

    Args:
        scores: Scores by teacher.
        weights: Weights by teacher; without any teacher all scores are 0.
        length: Length of the list.
    """
    total = np.zeros(length, dtype=np.float32)
    for name, weight in weights.items():
        own = np.asarray(scores[name], dtype=np.float32)
        spread = float(own.std())
        if spread > 0:
            total += weight / sum(weights.values()) * (own - own.mean()) / spread
    return total
