"""The encoder that a student was made from; its hidden states are encoder matching's targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import BertModel

from ..._quiet import quiet
from .forward import TrainingBatch


@dataclass(frozen=True, slots=True)
class ReferenceStates:
    """Hidden states of texts.

    Attributes:
        states: States after each layer, shape (tokens, hidden).
        means: Mean of each text's last states, which is a sentence encoder's embedding of the text;
            shape (texts, hidden).
    """

    states: Sequence[Tensor]
    means: Tensor


class ReferenceEncoder:
    """The encoder that a student was converted from.

    Args:
        folder: The encoder's folder.
        layers: Numbers of the encoder's layers that the student has, counted from 0; None for all.
        dtype: Data type of the computation.
        device: The student's device.
    """

    def __init__(
        self,
        folder: Path,
        *,
        layers: Sequence[int] | None = None,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> None:
        with quiet():
            self._bert = BertModel.from_pretrained(folder, dtype=dtype).eval().to(device)
        config = self._bert.config
        self.layers = tuple(range(config.num_hidden_layers) if layers is None else layers)
        self.longest = int(config.max_position_embeddings)

    def states(self, batch: TrainingBatch) -> list[Tensor]:
        """Compute the states after each of `layers`, for the same tokens.

        Args:
            batch: A batch of sequences no longer than `longest`.

        Returns:
            Shape (tokens, hidden) each, float32.
        """
        return self._rows(batch, lambda every: [every[layer] for layer in self.layers])

    def half_layer_states(self, batch: TrainingBatch) -> list[tuple[Tensor, Tensor]]:
        """Compute the states of `states`, and those between attention and feed-forward.

        Returns:
            Both states of each of `layers`: behind the attention, and behind the feed-forward.
        """
        inner: list[Tensor] = []

        def given(every: Sequence[Tensor]) -> list[Tensor]:
            seen, inner[:] = inner[:], []
            return [state for layer in self.layers for state in (seen[layer], every[layer])]

        hooks = [
            layer.attention.output.register_forward_hook(lambda _, __, out: inner.append(out))
            for layer in self._bert.encoder.layer
        ]
        try:
            states = self._rows(batch, given)
        finally:
            for hook in hooks:
                hook.remove()
        return list(zip(states[::2], states[1::2], strict=True))

    @torch.no_grad()
    def _rows(
        self, batch: TrainingBatch, given_of: Callable[[Sequence[Tensor]], list[Tensor]]
    ) -> list[Tensor]:
        """Compute states for all tokens, group by group; `given_of` selects them."""
        states: list[Tensor] = []
        for group in batch.groups:
            # Padding may be longer than the encoder's table of positions, but no text is.
            rows, mask = group.rows[:, : self.longest], group.mask[:, : self.longest]
            every = self._bert(
                batch.input_ids[rows],
                attention_mask=mask.long(),
                output_hidden_states=True,
            ).hidden_states[1:]
            given = given_of(every)
            if not states:
                shape = (batch.tokens, given[0].shape[-1])
                states = [torch.empty(shape, device=given[0].device) for _ in given]
            for state, one in zip(states, given, strict=True):
                state[rows[mask]] = one[mask].float()
        return states

    def read(self, batch: TrainingBatch) -> ReferenceStates:
        """Compute the hidden states, and their mean over each text."""
        states = self.states(batch)
        parts = torch.split(states[-1], list(batch.lengths))
        return ReferenceStates(states, torch.stack([text.mean(0) for text in parts]))
