"""Keep in pairs what a converted encoder knows: each text's states are to be as if it stood alone.

An encoder of sentences gives near vectors to a question and its answer, and has learned that from
far more pairs than a student will see. The student begins by reading the two texts of a pair apart,
see `widening`, but with ALiBi for the encoder's positions. Here it learns to give the tokens of the
query, and those of the passage, the states that the encoder gives them all the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from transformers import BertModel

from .._quiet import quiet
from ..encoders.tokenizer import TokenPair
from .forward import TrainingBatch


class Original:
    """The encoder that a student was converted from.

    Args:
        folder: Its own.
        layers: Which of its layers the student has, counted from 0; None for all.
        dtype: What it computes in.
        device: The student's.
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
        """The states after each of `layers`, for the same tokens.

        Args:
            batch: A batch of sequences no longer than `longest`.

        Returns:
            Shape (tokens, hidden) each, float32.
        """
        return self._rows(batch, lambda every: [every[layer] for layer in self.layers])

    def halves(self, batch: TrainingBatch) -> list[tuple[Tensor, Tensor]]:
        """As `states`, with what it gives between a layer's attention and its feed-forward.

        Returns:
            Both of each of `layers`, the inner one first.
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
        """Outputs group by group, chosen of the states of its layers, for all tokens."""
        states: list[Tensor] = []
        for group in batch.groups:
            every = self._bert(
                batch.input_ids[group.rows],
                attention_mask=group.mask.long(),
                output_hidden_states=True,
            ).hidden_states[1:]
            given = given_of(every)
            if not states:
                shape = (batch.tokens, given[0].shape[-1])
                states = [torch.empty(shape, device=given[0].device) for _ in given]
            rows = group.rows[group.mask]
            for state, one in zip(states, given, strict=True):
                state[rows] = one[group.mask].float()
        return states

    def missed(self, states: Sequence[Tensor], apart: Apart) -> Tensor:
        """`distance` of a student's states, from the embeddings on, see `hidden_states`."""
        own = states[1 : len(self.layers) + 1]
        return distance(own, apart, self.read(apart.batch))

    def read(self, batch: TrainingBatch) -> Read:
        """Its states, and their mean over each text."""
        states = self.states(batch)
        parts = torch.split(states[-1], list(batch.lengths))
        return Read(states, torch.stack([text.mean(0) for text in parts]))


@dataclass(frozen=True, slots=True)
class Read:
    """The original's states for texts by themselves.

    Attributes:
        states: After each layer, shape (tokens, hidden).
        means: Means of the last states, by which sentence encoders tell what a text means;
            shape (texts, hidden).
    """

    states: Sequence[Tensor]
    means: Tensor


@dataclass(frozen=True, slots=True)
class Apart:
    """The texts of pairs, each by itself.

    Each text's [SEP] is one of its tokens. Those of a pair that have no counterpart, [CLS] and what
    is in texts that are blank or too long, belong to neither side and to a text behind the last.

    Attributes:
        batch: The texts, each between its special tokens; one that several pairs have, once.
        sides: Which of the pairs' rows hold tokens of queries, and which of passages; 1 or 0,
            shape (2, rows).
        counterparts: Where each row's token is in `batch`, shape (rows,).
        places: Which text in which pair a row belongs to, counted from 0, shape (rows,).
        texts: Which text of `batch` is in each of those places, shape (places,).
        place_sides: As `sides`, of the places, shape (2, places).
    """

    batch: TrainingBatch
    sides: Tensor
    counterparts: Tensor
    places: Tensor
    texts: Tensor
    place_sides: Tensor

    @classmethod
    def of(
        cls,
        pairs: Sequence[TokenPair],
        rows: int,
        longest: int,
        device: torch.device | str = "cpu",
    ) -> Self | None:
        """Take pairs apart.

        Args:
            pairs: As the tokenizer of `convert_bert` makes them: [CLS] query [SEP] passage [SEP],
                of type 0 to the first [SEP] and of type 1 after it.
            rows: Rows of the pairs' own batch.
            longest: Tokens of a text with its special tokens; longer ones are left out.
            device: Where the tensors go.

        Returns:
            None where all texts are blank or too long.
        """
        texts: dict[bytes, int] = {}
        alone: list[TokenPair] = []
        first: list[int] = []
        tokens = start = 0
        sides = torch.zeros(2, rows)
        counterparts, places = torch.zeros(rows, dtype=torch.int64), torch.full((rows,), -1)
        found: list[tuple[int, int]] = []
        for pair in pairs:
            query = len(pair) - sum(pair.token_type_ids)
            parts = (pair.input_ids[:query], pair.input_ids[:1] + pair.input_ids[query:])
            starts = (start + 1, start + query)
            start += len(pair)
            for side, (ids, at) in enumerate(zip(parts, starts, strict=True)):
                if not 2 < len(ids) <= longest:
                    continue
                text = texts.setdefault(ids.tobytes(), len(alone))
                if text == len(alone):
                    alone.append(TokenPair(ids, array("i", [0]) * len(ids)))
                    first.append(tokens)
                    tokens += len(ids)
                own = slice(at, at + len(ids) - 1)
                sides[side, own] = 1
                counterparts[own] = torch.arange(first[text] + 1, first[text] + len(ids))
                places[own] = len(found)
                found.append((text, side))
        if not found:
            return None
        places[places < 0] = len(found)
        return cls(
            batch=TrainingBatch.of(alone, device),
            sides=sides.to(device),
            counterparts=counterparts.to(device),
            places=places.to(device),
            texts=torch.tensor([text for text, _ in found], device=device),
            place_sides=torch.tensor(
                [[float(side == one) for _, side in found] for one in (0, 1)], device=device
            ),
        )


def distance(states: Sequence[Tensor], apart: Apart, alone: Read) -> Tensor:
    """Distance of a student's states from those of the texts by themselves.

    Of each layer, and of the last one's mean over a text, the squared distance as a part of the
    original's variance; the mean over layers and the mean vectors' are added. A vector that is
    added to all queries, or to all passages, costs nothing: by such a vector the layers above can
    tell the two.

    Args:
        states: The student's, after each of the layers that the original has, see
            `hidden_states`.
        apart: The texts of the same batch.
        alone: What the original makes of them.

    Returns:
        A scalar; 0 where all is the same, and about 2 where nothing is.
    """
    hidden = alone.means.shape[1]
    own = [state[:, :hidden].float() for state in states]
    layers = [
        _distance(given, wanted.index_select(0, apart.counterparts), apart.sides)
        for given, wanted in zip(own, alone.states, strict=True)
    ]
    wanted = alone.means[apart.texts]
    pooled = _distance(means_of(own[-1], apart), wanted, apart.place_sides)
    return torch.stack(layers).mean() + pooled


def means_of(rows: Tensor, apart: Apart) -> Tensor:
    """The mean of each text's rows, shape (places, columns)."""
    places = len(apart.texts)
    sums = rows.new_zeros(places + 1, rows.shape[1]).index_add(0, apart.places, rows)
    return sums[:places] / torch.bincount(apart.places, minlength=places)[:places, None]


def _distance(given: Tensor, wanted: Tensor, sides: Tensor) -> Tensor:
    """The part of the variance that is missed, whatever vector is added to a side.

    Sums over all rows, of which those of neither side count nothing: to pick rows out would take
    longer, backwards.
    """
    error = _variation(given - wanted, sides)
    return error / _variation(wanted, sides.sum(0, keepdim=True))


def _variation(rows: Tensor, sides: Tensor) -> Tensor:
    """The squared distances to the mean of a row's side, added up."""
    squares = sides.sum(0) @ rows.square().sum(1)
    of_means = (sides @ rows).square().sum(1) / sides.sum(1).clamp(min=1)
    return squares - of_means.sum()
