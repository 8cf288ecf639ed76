"""Encoder matching: train a converted encoder to reproduce the hidden states of its reference."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from ...encoders import EncoderModel
from ...encoders.tokenizer import TokenPair
from ..settings import Count, MoreThan0, Settings, Steps
from .forward import TrainingBatch, hidden_states
from .reference import ReferenceEncoder
from .trainer import TrainingSettings

CUTS = (32, 64, 96, 128, 192, 256, 384, 512)
"""Lengths in tokens to which texts are truncated, if the reference can read as many."""


class MatchingSettings(Settings):
    """Settings of a stage of encoder matching, before ranking; see `EncoderMatching`.

    Attributes:
        steps: Number of steps.
        learning_rate: The highest learning rate.
        warm_up: Steps over which the learning rate rises.
        decay: Steps over which the learning rate falls.
        tokens_per_step: Approximate number of tokens per step.
    """

    steps: Count = 300
    learning_rate: MoreThan0 = 5e-4
    warm_up: Steps = 40
    decay: Steps = 260
    tokens_per_step: Count = 8192

    def training(self, dtype: torch.dtype) -> TrainingSettings:
        """Return these settings as settings of the trainer."""
        return TrainingSettings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            warm_up=self.warm_up,
            decay=self.decay,
            dtype=dtype,
        )


class EncoderMatching:
    """Match an encoder's hidden states on plain text: those of each layer, and their mean.

    The loss of a layer is the squared distance to the reference's vectors divided by those vectors'
    variance. The loss is the mean over layers plus one minus the cosine of the mean-pooled vectors,
    for which sentence encoders are trained.

    A student with some of the encoder's layers is matched with those layers.

    Args:
        reference: The encoder.
        tokenizer: The reference's tokenizer, as `convert_bert` returns it.
        texts: Plain texts.
        tokens_per_step: Approximate number of tokens per step.
        seed: Seed of the choice of texts.
        device: The student's device.
    """

    def __init__(
        self,
        reference: ReferenceEncoder,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        *,
        tokens_per_step: int = 8192,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._reference = reference
        self._device = device
        self._tokenizer = tokenizer
        self._texts = texts
        self._tokens = tokens_per_step
        self._seed = seed

    def micro_batches(self, step: int, parts: int) -> list[TrainingBatch]:
        """Draw texts at random, and truncate them to random lengths."""
        chance = random.Random(f"{self._seed}-{step}")
        texts = [self._draw(chance, max(1, self._tokens // parts)) for _ in range(parts)]
        return [TrainingBatch.of(own, self._device) for own in texts]

    def _draw(self, chance: random.Random, tokens: int) -> list[TokenPair]:
        chosen: list[TokenPair] = []
        while tokens > 0:
            ids = self._tokenizer.encode(chance.choice(self._texts)).ids
            # Most texts are short after truncation, but long ones must occur in training too.
            cut = min(chance.choice(CUTS), self._reference.longest, tokens)
            if len(ids) > cut:
                ids[max(1, cut - 1) :] = ids[-1:]
            chosen.append(TokenPair(array("i", ids), array("i", [0]) * len(ids)))
            tokens -= len(ids)
        return chosen

    def loss(self, model: EncoderModel, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, float]]:
        """Compute the loss of a batch, see the class."""
        wanted = self._reference.states(batch)
        states = hidden_states(model, batch)[1 : len(wanted) + 1]
        given = [state[: batch.tokens].float() for state in states]
        layers = torch.stack(
            [F.mse_loss(g, w) / w.var() for g, w in zip(given, wanted, strict=True)]
        )
        pooled, target = (
            torch.stack([p.mean(0) for p in torch.split(states[-1], list(batch.lengths))])
            for states in (given, wanted)
        )
        cosine = F.cosine_similarity(pooled, target).mean()
        part = batch.tokens / self._tokens
        loss = part * (layers.mean() + 1 - cosine)
        return loss, {"tokens": batch.tokens, "cosine": part * float(cosine.detach())}
