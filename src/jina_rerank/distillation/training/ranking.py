"""Learning to rank lists of passages from teachers' scores and from labels."""

from __future__ import annotations

import logging
import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ...encoders import EncoderModel
from ...encoders.tokenizer import PairTokenizer, TokenIds, TokenPair
from ...errors import InputError
from ..data.cache import Prepared
from ..data.negatives import CandidateList
from ..settings import (
    Count,
    Lengths,
    MoreThan0,
    NotNegative,
    Probability,
    Seed,
    Settings,
    limit,
)
from ..teachers import mix
from .forward import TrainingBatch, pooled
from .losses import contrastive, listwise_kl, margin_mse, pointwise

logger = logging.getLogger(__name__)


class RankingSettings(Settings):
    """Settings of the ranking losses, and of how lists are drawn.

    Attributes:
        kl: Weight of `listwise_kl`, against the teacher.
        margin_mse: Weight of `margin_mse`, against the teacher.
        contrastive: Weight of `contrastive`, against the labels.
        pointwise: Weight of `pointwise`, against the labels.
        temperature: Temperature of the teacher in `kl`, whose scores have mean 0 and deviation 1
            over a list.
        passages: Number of passages of a list that are used at a time, the first answer among them.
        tokens_per_step: Approximate number of tokens per step.
        longest_query: Maximum tokens of a query; the default is shortened to what the student can
            read.
        longest_passage: Maximum tokens of a passage, drawn for each list: lengths with their
            relative frequencies. The default lengths are shortened to what the student can read.
        consistency: Rank within which the teachers must place an answer, or a list is left out:
            titles such as "Notes" are no questions. None keeps all lists. The consistency filter
            of Promptagator (Dai et al., arXiv:2209.11755) and E5 (Wang et al., arXiv:2212.03533).
        blank_rate: Probability that a list gets a blank passage, which answers nothing.
        seed: Seed of random choices.
    """

    kl: NotNegative = 0.5
    margin_mse: NotNegative = 0.0
    contrastive: NotNegative = 0.5
    pointwise: NotNegative = 0.05
    temperature: MoreThan0 = 0.5
    passages: Annotated[int, limit(lambda n: n >= 2, "2 or more: an answer and another")] = 8
    tokens_per_step: Count = 12288
    longest_query: Count = 64
    longest_passage: Lengths = Field(
        default_factory=lambda: {128: 0.35, 256: 0.4, 448: 0.2, 1536: 0.05}
    )
    consistency: Count | None = None
    blank_rate: Probability = 0.02
    seed: Seed = 0

    @property
    def ranks(self) -> bool:
        """True if any ranking loss has a weight."""
        return bool(self.kl or self.margin_mse or self.contrastive or self.pointwise)

    def within(self, room: int) -> Self:
        """Return settings whose pairs a student can read.

        Lengths that were not given are shortened, as an encoder's table of positions is often
        shorter than they are.

        Args:
            room: Maximum number of tokens of a query and a passage together.

        Raises:
            InputError: Lengths that were given do not fit; the message names the field.
        """
        query = self.longest_query
        if "longest_query" not in self.model_fields_set:
            # The share of a query when the student is used.
            query = max(1, min(query, room // 2))
        if query >= room:
            raise InputError(
                "recipe",
                f"ranking.longest_query: {query:,} leaves no room for a passage: the student reads "
                f"{room:,} tokens of a query and a passage; set it to {room // 2:,} or less",
            )
        most = room - query
        longest = max(length for length, share in self.longest_passage.items() if share)
        if "longest_passage" in self.model_fields_set and longest > most:
            raise InputError(
                "recipe",
                f"ranking.longest_passage: {longest:,} does not fit: the student reads {room:,} "
                f"tokens of a query and a passage, and ranking.longest_query is {query:,}; set it "
                f"to {most:,} or less",
            )
        lengths: dict[int, float] = {}
        for length, share in self.longest_passage.items():
            fitting = min(length, most)
            lengths[fitting] = lengths.get(fitting, 0.0) + share
        return self.model_copy(update={"longest_query": query, "longest_passage": lengths})

    def without_ranking(self, tokens_per_step: int) -> RankingSettings:
        """Return settings for the same lists without ranking losses, for an auxiliary loss only.

        Args:
            tokens_per_step: Approximate number of tokens per step.
        """
        nothing = dict.fromkeys(("kl", "margin_mse", "contrastive", "pointwise"), 0.0)
        return self.model_copy(update={**nothing, "tokens_per_step": tokens_per_step})


class AuxiliaryLoss(Protocol):
    """A loss of a student's hidden states, which is added to the ranking losses.

    Attributes:
        weight: Weight of the loss in the sum.
    """

    weight: float

    def of(
        self, pairs: Sequence[TokenPair], batch: TrainingBatch
    ) -> Callable[[Sequence[Tensor]], Tensor] | None:
        """Return the loss of a batch, as a function of its hidden states; None if it has none.

        Args:
            pairs: The batch's sequences.
            batch: The same as tensors.
        """
        ...


@dataclass(frozen=True, slots=True)
class ListBatch:
    """Lists of a step, or of a part of it.

    Attributes:
        batch: The lists' pairs.
        places: Index in the batch of each list's pairs, shape (lists, passages).
        teacher: The teacher's scores, same shape.
        labels: 1 for passages that answer the query, same shape.
        mask: False where a list is shorter, same shape.
        part: The fraction of the step's lists that these are.
        auxiliary: The auxiliary loss, as a function of the batch's hidden states.
    """

    batch: TrainingBatch
    places: Tensor
    teacher: Tensor
    labels: Tensor
    mask: Tensor
    part: float
    auxiliary: Callable[[Sequence[Tensor]], Tensor] | None


@dataclass(frozen=True, slots=True)
class _Drawn:
    pairs: list[TokenPair]
    teacher: list[float]
    labels: list[bool]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.pairs))


def _answered_within(one: CandidateList, teacher: NDArray[np.float32], first: int | None) -> bool:
    answers = teacher[np.asarray(one.labels, dtype=bool)]
    return first is None or int((teacher > answers.max()).sum()) < first


class RankingObjective:
    """Objective of ranking: losses against a mix of teachers' scores, and against labels.

    Args:
        prepared: Lists and scores.
        teachers: Weight of each teacher in the mix.
        tokenizer: The student's tokenizer.
        settings: Settings of the losses and lists.
        source_weights: Relative frequency of each source's lists; 1 for sources that are not named.
        auxiliary: Loss that is added to the ranking losses.
        device: The model's device.

    Raises:
        InputError: `settings.consistency` and `source_weights` leave no list.
    """

    def __init__(
        self,
        prepared: Prepared,
        teachers: Mapping[str, float],
        tokenizer: PairTokenizer,
        settings: RankingSettings,
        *,
        source_weights: Mapping[str, float] | None = None,
        auxiliary: AuxiliaryLoss | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._passages = prepared.passages
        self._tokenizer = tokenizer
        self._settings = settings
        self._auxiliary = auxiliary
        self._device = device
        weights = source_weights or {}
        mixed = (
            mix({name: prepared.scores[name][i] for name in teachers}, teachers, len(one.passages))
            for i, one in enumerate(prepared.lists)
        )
        kept = [
            (one, scores)
            for one, scores in zip(prepared.lists, mixed, strict=True)
            if _answered_within(one, scores, settings.consistency)
        ]
        self._lists = [one for one, _ in kept]
        self._teacher = [scores for _, scores in kept]
        self._cumulative = np.cumsum([weights.get(one.source, 1.0) for one in self._lists])
        if not kept or not self._cumulative[-1]:
            raise InputError(
                "recipe", "ranking.consistency: leaves no list; set it higher, or leave it out"
            )
        logger.info("learns from %d of %d lists", len(kept), len(prepared.lists))
        self._tokens: dict[int, TokenIds] = {}

    def micro_batches(self, step: int, parts: int) -> list[ListBatch]:
        """See `Objective`. The batches have about the same number of tokens."""
        chance = random.Random(f"{self._settings.seed}-{step}")
        drawn: list[_Drawn] = []
        while sum(one.tokens for one in drawn) < self._settings.tokens_per_step:
            drawn.append(self._draw(chance))
        own: list[list[_Drawn]] = [[] for _ in range(min(parts, len(drawn)))]
        for one in sorted(drawn, key=lambda d: d.tokens, reverse=True):
            min(own, key=lambda lists: sum(d.tokens for d in lists)).append(one)
        return [self._batch(lists, len(lists) / len(drawn)) for lists in own]

    def _draw(self, chance: random.Random) -> _Drawn:
        settings = self._settings
        lengths = settings.longest_passage
        at = int(np.searchsorted(self._cumulative, chance.random() * self._cumulative[-1], "right"))
        one = self._lists[at]
        places = self._choose(one, chance)
        (limit,) = chance.choices(list(lengths), list(lengths.values()))
        (query,) = self._tokenizer.encode([one.query])
        texts = [self._passage(one.passages[p])[:limit] for p in places]
        teacher = [float(self._teacher[at][p]) for p in places]
        labels = [one.labels[p] for p in places]
        if chance.random() < settings.blank_rate:
            texts[-1], teacher[-1], labels[-1] = array("i"), min(teacher) - 1, False
        query = query[: settings.longest_query]
        return _Drawn([self._tokenizer.pair(query, text) for text in texts], teacher, labels)

    def _choose(self, one: CandidateList, chance: random.Random) -> list[int]:
        """Choose the passages of a list: the first answer, then a random choice of the others."""
        others = list(range(1, len(one.passages)))
        count = min(self._settings.passages - 1, len(others))
        return [0, *chance.sample(others, count)]

    def _passage(self, place: int) -> TokenIds:
        if place not in self._tokens:
            (self._tokens[place],) = self._tokenizer.encode([self._passages[place]])
        return self._tokens[place]

    def _batch(self, lists: Sequence[_Drawn], part: float) -> ListBatch:
        width = max(len(one.pairs) for one in lists)
        first = [0, *accumulate(len(one.pairs) for one in lists[:-1])]

        def matrix(values: Sequence[Sequence[float]]) -> Tensor:
            rows = [[*row, *[0.0] * (width - len(row))] for row in values]
            return torch.tensor(rows, device=self._device)

        pairs = [pair for one in lists for pair in one.pairs]
        batch = TrainingBatch.of(pairs, self._device)
        places = [list(range(at, at + len(o.pairs))) for o, at in zip(lists, first, strict=True)]
        return ListBatch(
            batch=batch,
            places=matrix(places).long(),
            teacher=matrix([one.teacher for one in lists]),
            labels=matrix([[float(label) for label in one.labels] for one in lists]),
            mask=matrix([[1.0] * len(one.pairs) for one in lists]).bool(),
            part=part,
            auxiliary=None if self._auxiliary is None else self._auxiliary.of(pairs, batch),
        )

    def loss(self, model: EncoderModel, batch: ListBatch) -> tuple[Tensor, Mapping[str, float]]:
        """See `Objective`. The figures include how often an answer is ranked first."""
        settings = self._settings
        states, read = pooled(model, batch.batch)
        logits = model.head(read)[batch.places]
        loss = torch.zeros((), device=logits.device)
        figures: dict[str, float] = {}
        if self._auxiliary is not None and batch.auxiliary is not None:
            auxiliary = batch.auxiliary(states)
            loss = loss + self._auxiliary.weight * auxiliary
            figures["auxiliary"] = batch.part * float(auxiliary.detach())
        if settings.kl:
            kl = listwise_kl(logits, batch.teacher, batch.mask, settings.temperature)
            loss = loss + settings.kl * kl
        if settings.margin_mse:
            loss = loss + settings.margin_mse * margin_mse(logits, batch.teacher, batch.mask)
        if settings.contrastive:
            loss = loss + settings.contrastive * contrastive(logits, batch.labels, batch.mask)
        if settings.pointwise:
            loss = loss + settings.pointwise * pointwise(logits, batch.labels, batch.mask)
        best = logits.masked_fill(~batch.mask, -torch.inf).argmax(-1, keepdim=True)
        right = batch.labels.gather(1, best).mean()
        figures |= {
            "tokens": batch.batch.tokens,
            "pairs": len(batch.batch.lengths),
            "right": batch.part * float(right),
        }
        return batch.part * loss, figures
