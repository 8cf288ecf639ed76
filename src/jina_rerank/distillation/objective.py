"""Learning to rank lists of passages as the teacher does and as the labels say."""

from __future__ import annotations

import logging
import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..encoders import JinaBert
from ..encoders.tokenizer import PairTokenizer, TokenIds, TokenPair
from ..errors import InputError
from .forward import TrainingBatch, hidden_states
from .imitation import Apart, Original
from .losses import contrastive, listwise_kl, margin_mse, pointwise
from .mining import CandidateList
from .prepared import Prepared
from .teachers import mix

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ListSettings:
    """Settings of how lists are drawn and what they cost.

    Attributes:
        kl: Weight of `listwise_kl`, against the teacher.
        margin_mse: Weight of `margin_mse`, against the teacher.
        contrastive: Weight of `contrastive`, against the labels.
        pointwise: Weight of `pointwise`, against the labels.
        imitation: Weight of `imitation.distance`, for a student that compares: how far it is from
            what its original gives for query and passage, each by itself.
        temperature: Temperature of the teacher in `kl`, whose scores have mean 0 and deviation 1
            over a list.
        passages: How many of a list are used at a time, the first answer among them.
        tokens_per_step: About how many.
        longest_query: In tokens.
        longest_passage: In tokens, and how often a list is cut at that.
        longest_passage_before_decay: The same for the steps before the learning rate falls; None
            for `longest_passage` throughout. Short passages bring more lists in the same time.
        answer_within: Leave out lists of which the teachers place no answer among their first so
            many: titles such as "Notes" are no questions. None keeps all. The consistency filter
            of Promptagator (Dai et al., arXiv:2209.11755) and E5 (Wang et al., arXiv:2212.03533).
        blank: How often a list has a blank passage, which answers nothing.
        seed: Seed of what is drawn.
    """

    kl: float = 0.5
    margin_mse: float = 0.0
    contrastive: float = 0.5
    pointwise: float = 0.05
    imitation: float = 0.0
    temperature: float = 0.5
    passages: int = 8
    tokens_per_step: int = 12288
    longest_query: int = 64
    longest_passage: Mapping[int, float] = field(
        default_factory=lambda: {128: 0.35, 256: 0.4, 448: 0.2, 1536: 0.05}
    )
    longest_passage_before_decay: Mapping[int, float] | None = None
    answer_within: int | None = None
    blank: float = 0.02
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ListShare:
    """Lists of a step.

    Attributes:
        batch: Their pairs.
        places: Which pair stands where, shape (lists, passages).
        teacher: The teacher's scores, same shape.
        labels: Which passages answer, same shape.
        mask: False where a list is shorter, same shape.
        part: How many of the step's lists these are, from 0 to 1.
        apart: The same texts by themselves, where the student imitates its original.
    """

    batch: TrainingBatch
    places: Tensor
    teacher: Tensor
    labels: Tensor
    mask: Tensor
    part: float
    apart: Apart | None


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


class ListObjective:
    """Rank lists as a mix of teachers and the labels do.

    Args:
        prepared: Lists and scores.
        teachers: The weight of each teacher in the mix.
        tokenizer: The student's.
        settings: How.
        source_weights: How often lists of a source are drawn, 1 for sources that are not named.
        decay_from: The step from which the learning rate falls, see `Settings.decay`.
        imitation: What a student that compares is to keep; None where `settings.imitation` is 0.
        device: The model's.

    Raises:
        InputError: No list is left to learn from.
    """

    def __init__(
        self,
        prepared: Prepared,
        teachers: Mapping[str, float],
        tokenizer: PairTokenizer,
        settings: ListSettings,
        *,
        source_weights: Mapping[str, float] | None = None,
        decay_from: int = 0,
        imitation: Original | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._passages = prepared.passages
        self._tokenizer = tokenizer
        self._settings = settings
        self._decay_from = decay_from
        self._imitation = imitation
        self._device = device
        weights = source_weights or {}
        mixed = (
            mix({name: prepared.scores[name][i] for name in teachers}, teachers, len(one.passages))
            for i, one in enumerate(prepared.lists)
        )
        kept = [
            (one, scores)
            for one, scores in zip(prepared.lists, mixed, strict=True)
            if _answered_within(one, scores, settings.answer_within)
        ]
        self._lists = [one for one, _ in kept]
        self._teacher = [scores for _, scores in kept]
        self._cumulative = np.cumsum([weights.get(one.source, 1.0) for one in self._lists])
        if not kept or not self._cumulative[-1]:
            raise InputError(
                "recipe", "lists.answer_within: leaves no list; set it higher, or leave it out"
            )
        logger.info("learns from %d of %d lists", len(kept), len(prepared.lists))
        self._tokens: dict[int, TokenIds] = {}

    def shares(self, step: int, parts: int) -> list[ListShare]:
        """See `Objective`. Shares have about equally many tokens."""
        chance = random.Random(f"{self._settings.seed}-{step}")
        lengths = self._settings.longest_passage
        if step < self._decay_from:
            lengths = self._settings.longest_passage_before_decay or lengths
        drawn: list[_Drawn] = []
        while sum(one.tokens for one in drawn) < self._settings.tokens_per_step:
            drawn.append(self._draw(chance, lengths))
        own: list[list[_Drawn]] = [[] for _ in range(min(parts, len(drawn)))]
        for one in sorted(drawn, key=lambda d: d.tokens, reverse=True):
            min(own, key=lambda lists: sum(d.tokens for d in lists)).append(one)
        return [self._share(lists, len(lists) / len(drawn)) for lists in own]

    def _draw(self, chance: random.Random, lengths: Mapping[int, float]) -> _Drawn:
        settings = self._settings
        at = int(np.searchsorted(self._cumulative, chance.random() * self._cumulative[-1], "right"))
        one = self._lists[at]
        places = self._choose(one, chance)
        (limit,) = chance.choices(list(lengths), list(lengths.values()))
        (query,) = self._tokenizer.encode([one.query])
        texts = [self._passage(one.passages[p])[:limit] for p in places]
        teacher = [float(self._teacher[at][p]) for p in places]
        labels = [one.labels[p] for p in places]
        if chance.random() < settings.blank:
            texts[-1], teacher[-1], labels[-1] = array("i"), min(teacher) - 1, False
        query = query[: settings.longest_query]
        return _Drawn([self._tokenizer.pair(query, text) for text in texts], teacher, labels)

    def _choose(self, one: CandidateList, chance: random.Random) -> list[int]:
        """An answer first, then others."""
        others = list(range(1, len(one.passages)))
        count = min(self._settings.passages - 1, len(others))
        return [0, *chance.sample(others, count)]

    def _passage(self, place: int) -> TokenIds:
        if place not in self._tokens:
            (self._tokens[place],) = self._tokenizer.encode([self._passages[place]])
        return self._tokens[place]

    def _share(self, lists: Sequence[_Drawn], part: float) -> ListShare:
        width = max(len(one.pairs) for one in lists)
        first = [0, *accumulate(len(one.pairs) for one in lists[:-1])]

        def matrix(values: Sequence[Sequence[float]]) -> Tensor:
            rows = [[*row, *[0.0] * (width - len(row))] for row in values]
            return torch.tensor(rows, device=self._device)

        pairs = [pair for one in lists for pair in one.pairs]
        batch = TrainingBatch.of(pairs, self._device)
        apart = None
        if self._imitation is not None:
            rows, longest = len(batch.input_ids), self._imitation.longest
            apart = Apart.of(pairs, rows, longest, self._device)
        places = [list(range(at, at + len(o.pairs))) for o, at in zip(lists, first, strict=True)]
        return ListShare(
            batch=batch,
            places=matrix(places).long(),
            teacher=matrix([one.teacher for one in lists]),
            labels=matrix([[float(label) for label in one.labels] for one in lists]),
            mask=matrix([[1.0] * len(one.pairs) for one in lists]).bool(),
            part=part,
            apart=apart,
        )

    def loss(self, model: JinaBert, share: ListShare) -> tuple[Tensor, Mapping[str, float]]:
        """See `Objective`. The figures hold how often an answer stands first."""
        settings = self._settings
        *states, first = hidden_states(model, share.batch, whole=False)
        logits = model.head(first)[share.places]
        loss = torch.zeros((), device=logits.device)
        figures: dict[str, float] = {}
        if self._imitation is not None and share.apart is not None:
            missed = self._imitation.missed(states, share.apart)
            loss = loss + settings.imitation * missed
            figures["missed"] = share.part * float(missed.detach())
        if settings.kl:
            kl = listwise_kl(logits, share.teacher, share.mask, settings.temperature)
            loss = loss + settings.kl * kl
        if settings.margin_mse:
            loss = loss + settings.margin_mse * margin_mse(logits, share.teacher, share.mask)
        if settings.contrastive:
            loss = loss + settings.contrastive * contrastive(logits, share.labels, share.mask)
        if settings.pointwise:
            loss = loss + settings.pointwise * pointwise(logits, share.labels, share.mask)
        best = logits.masked_fill(~share.mask, -torch.inf).argmax(-1, keepdim=True)
        right = share.labels.gather(1, best).mean()
        figures |= {
            "tokens": share.batch.tokens,
            "pairs": len(share.batch.lengths),
            "right": share.part * float(right),
        }
        return share.part * loss, figures
