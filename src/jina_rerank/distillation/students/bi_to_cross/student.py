"""The student that is initialized as a bi-encoder in a cross-encoder's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ....encoders import EncoderModel, JinaBert
from ...settings import Count, NotNegative, Seed, naming
from ...training.matching import MatchingSettings
from ...training.reference import ReferenceEncoder
from ..bert import BertEncoder, encoder_files, read_tokenizer
from ..student import Material, Stage, StudentSettings, as_jinabert, room_of
from .convert import convert_to_cross_encoder, cross_encoder_shape, remove_initial_state
from .least_squares import fit_layers
from .masks import trainable_masks
from .matching import PairMatching

EXAMPLES = 1536
"""Number of queries with answers for the encoder's statistics and to fit the layers."""


class BiToCrossStudent(StudentSettings):
    """A sentence encoder that reads two texts and compares them; see `convert_to_cross_encoder`.

    Attributes:
        bi_to_cross: Folder of the encoder, a BERT.
        intermediate_size: Number of units of each feed-forward to keep, those that the others can
            replace least; None for all.
        matching: Settings of a stage of encoder matching before ranking; None for no such stage.
        matching_weight: Weight of the matching loss beside the ranking losses.
        seed: Seed of random weights and choices.
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

    def check(self) -> int:
        """See `Student`. Checks the encoder's shape and tokenizer, and builds nothing."""
        with self._naming():
            shape = cross_encoder_shape(
                BertEncoder.read(self._source), intermediate_size=self.intermediate_size
            )
            return room_of(shape.max_position_embeddings, read_tokenizer(self._source))

    def build(self, examples: Sequence[tuple[str, str]]) -> tuple[JinaBert, Tokenizer]:
        """See `Student`; the layers are fitted on the examples."""
        with self._naming():
            return convert_to_cross_encoder(
                self._source, examples, intermediate_size=self.intermediate_size, seed=self.seed
            )

    def masks(self, model: EncoderModel) -> Mapping[str, Tensor] | None:
        """See `Student`. Freezes the elements that hold the texts apart."""
        return trainable_masks(as_jinabert(model).config)

    def stages(self, material: Material) -> Sequence[Stage]:
        """See `Student`. Encoder matching on the pairs of the ranking lists, and another fit."""
        if self.matching is None:
            return ()
        settings = material.ranking.without_ranking(self.matching.tokens_per_step)
        auxiliary = PairMatching(self._reference(material), 1.0)
        objective = material.ranking_objective(settings, auxiliary)

        def finish(model: EncoderModel) -> None:
            """Fit the layers again: training ends near the best matrices, the fit finds them."""
            reference = ReferenceEncoder(
                self._source, dtype=torch.float32, device=model.classifier.weight.device
            )
            fit_layers(model, material.tokenizer, reference, material.examples, seed=self.seed)
            remove_initial_state(model, material.tokenizer)

        training = self.matching.training(material.dtype)
        return (Stage("matching", objective, training, finish),)

    def auxiliary_loss(self, material: Material) -> PairMatching | None:
        """See `Student`. Encoder matching in pairs, if it has a weight."""
        if not self.matching_weight:
            return None
        return PairMatching(self._reference(material), self.matching_weight)

    def _files(self) -> list[Path]:
        return encoder_files(self._source)

    @property
    def _source(self) -> Path:
        return Path(self.bi_to_cross).expanduser()

    def _naming(self) -> AbstractContextManager[None]:
        given = ["bi_to_cross", *(["intermediate_size"] if self.intermediate_size else [])]
        return naming(", ".join(f"student.{name}" for name in given))

    def _reference(self, material: Material) -> ReferenceEncoder:
        return ReferenceEncoder(self._source, dtype=material.dtype, device=material.device)
