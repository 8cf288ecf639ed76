"""The student that begins as a bi-encoder in a cross-encoder's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ....encoders import JinaBert, JinaBertConfig
from ...settings import Count, NotNegative, Seed, naming
from ...training.matching import MatchingSettings
from ...training.reference import ReferenceEncoder
from ..bert import BertEncoder
from ..student import Material, Stage, StudentSettings
from .convert import convert_to_cross_encoder, cross_encoder_shape, remove_initial_state
from .least_squares import fit_layers
from .masks import trainable_masks
from .matching import PairMatching

EXAMPLES = 1536
"""Queries with their answers on which the encoder's statistics are taken and its layers fitted."""


class BiToCrossStudent(StudentSettings):
    """A sentence encoder that reads two texts and compares them; see `convert_to_cross_encoder`.

    Attributes:
        bi_to_cross: The encoder's folder, a BERT's.
        intermediate_size: How many units of each feed-forward to keep, those that the others can
            least make up for; None for all.
        matching: A stage before ranking in which it learns the encoder's hidden states; None for
            none.
        matching_weight: Weight of the matching loss beside the ranking losses.
        seed: Seed of what is random.
    """

    bi_to_cross: str
    intermediate_size: Count | None = None
    matching: MatchingSettings | None = None
    matching_weight: NotNegative = 0.0
    seed: Seed = 0

    @property
    def examples(self) -> int:
        """See `Student`."""
        return EXAMPLES

    def check(self) -> None:
        """See `Student`; what is missing is told, and nothing is built."""
        with self._naming():
            cross_encoder_shape(
                BertEncoder.read(self._source), intermediate_size=self.intermediate_size
            )

    def build(self, examples: Sequence[tuple[str, str]]) -> tuple[JinaBert, Tokenizer]:
        """See `Student`; the layers are fitted on the examples."""
        with self._naming():
            return convert_to_cross_encoder(
                self._source, examples, intermediate_size=self.intermediate_size, seed=self.seed
            )

    def masks(self, config: JinaBertConfig) -> Mapping[str, Tensor] | None:
        """All but what holds the texts apart."""
        return trainable_masks(config)

    def stages(self, material: Material) -> Sequence[Stage]:
        """Encoder matching in pairs, on the lists of ranking, and then another fit."""
        if self.matching is None:
            return ()
        settings = material.ranking.without_ranking(self.matching.tokens_per_step)
        auxiliary = PairMatching(self._reference(material), 1.0)
        objective = material.ranking_objective(settings, auxiliary)

        def finish(model: JinaBert) -> None:
            """Training leaves the matrices near the best ones, and least squares find them."""
            reference = ReferenceEncoder(
                self._source, dtype=torch.float32, device=model.classifier.weight.device
            )
            fit_layers(model, material.tokenizer, reference, material.examples, seed=self.seed)
            remove_initial_state(model, material.tokenizer)

        training = self.matching.training(material.dtype)
        return (Stage("matching", objective, training, finish),)

    def auxiliary_loss(self, material: Material) -> PairMatching | None:
        """Encoder matching in pairs, if it has a weight."""
        if not self.matching_weight:
            return None
        return PairMatching(self._reference(material), self.matching_weight)

    @property
    def _source(self) -> Path:
        return Path(self.bi_to_cross).expanduser()

    def _naming(self) -> AbstractContextManager[None]:
        given = ["bi_to_cross", *(["intermediate_size"] if self.intermediate_size else [])]
        return naming(", ".join(f"student.{name}" for name in given))

    def _reference(self, material: Material) -> ReferenceEncoder:
        return ReferenceEncoder(self._source, dtype=material.dtype, device=material.device)
