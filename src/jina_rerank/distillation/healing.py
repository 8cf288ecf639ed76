"""Getting a converted encoder used to ALiBi: it learns to give the original's hidden states."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from ..encoders import JinaBert
from ..encoders.tokenizer import TokenPair
from .forward import TrainingBatch, hidden_states
from .imitation import Original

CUTS = (32, 64, 96, 128, 192, 256, 384, 512)
"""Where texts are cut; the original reads no more than the last."""


class Healing:
    """Match an encoder's hidden states on plain text, layer by layer, and their mean.

    The loss of a layer is the squared distance to the original's vectors as a part of those
    vectors' variance; to the mean over layers comes one minus the cosine of the mean-pooled
    vectors, which is what sentence encoders are trained for.

    A student with some of the encoder's layers learns what those layers give.

    Args:
        original: The encoder.
        tokenizer: The original's, as `convert_bert` gives it.
        texts: Plain text.
        tokens_per_step: About how many tokens a step takes.
        seed: Seed of the choice of texts.
        device: The student's.
    """

    def __init__(
        self,
        original: Original,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        *,
        tokens_per_step: int = 8192,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._original = original
        self._device = device
        self._tokenizer = tokenizer
        self._texts = texts
        self._tokens = tokens_per_step
        self._seed = seed

    def shares(self, step: int, parts: int) -> list[TrainingBatch]:
        """Texts drawn at random, cut at random lengths."""
        chance = random.Random(f"{self._seed}-{step}")
        texts = [self._draw(chance, max(1, self._tokens // parts)) for _ in range(parts)]
        return [TrainingBatch.of(own, self._device) for own in texts]

    def _draw(self, chance: random.Random, tokens: int) -> list[TokenPair]:
        chosen: list[TokenPair] = []
        while tokens > 0:
            ids = self._tokenizer.encode(chance.choice(self._texts)).ids
            # Short texts are many, and long ones must not be strange.
            cut = min(chance.choice(CUTS), tokens)
            if len(ids) > cut:
                ids[max(1, cut - 1) :] = ids[-1:]
            chosen.append(TokenPair(array("i", ids), array("i", [0]) * len(ids)))
            tokens -= len(ids)
        return chosen

    def loss(self, model: JinaBert, share: TrainingBatch) -> tuple[Tensor, Mapping[str, float]]:
        """See the class."""
        wanted = self._original.states(share)
        states = hidden_states(model, share)[1 : len(wanted) + 1]
        given = [state[: share.tokens].float() for state in states]
        layers = torch.stack(
            [F.mse_loss(g, w) / w.var() for g, w in zip(given, wanted, strict=True)]
        )
        pooled, target = (
            torch.stack([p.mean(0) for p in torch.split(states[-1], list(share.lengths))])
            for states in (given, wanted)
        )
        cosine = F.cosine_similarity(pooled, target).mean()
        part = share.tokens / self._tokens
        loss = part * (layers.mean() + 1 - cosine)
        return loss, {"tokens": share.tokens, "cosine": part * float(cosine.detach())}
