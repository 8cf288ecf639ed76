"""Encoder matching in pairs: each text is to have the hidden states that it has by itself.

A sentence encoder gives near vectors to a question and its answer, and has learned that from far
more pairs than a student will see. The student begins by reading the two texts of a pair each by
itself, see `layers`, but with ALiBi for the encoder's positions. Here it learns to give the tokens
of both texts the hidden states that the encoder gives them all the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ....encoders.tokenizer import TokenPair
from ...training.forward import TrainingBatch
from ...training.reference import ReferenceEncoder, ReferenceStates


class PairMatching:
    """The matching loss of a batch of pairs, see `distance`; an `AuxiliaryLoss`.

    Args:
        reference: The encoder, on the student's device.
        weight: Weight of this loss beside the ranking losses.
    """

    def __init__(self, reference: ReferenceEncoder, weight: float) -> None:
        self.weight = weight
        self._reference = reference

    def of(
        self, pairs: Sequence[TokenPair], batch: TrainingBatch
    ) -> Callable[[Sequence[Tensor]], Tensor] | None:
        """See `AuxiliaryLoss`; None where all texts are blank or too long."""
        device = batch.input_ids.device
        texts = SeparateTexts.of(pairs, len(batch.input_ids), self._reference.longest, device)
        if texts is None:
            return None
        return lambda states: self.loss(states, texts)

    def loss(self, states: Sequence[Tensor], texts: SeparateTexts) -> Tensor:
        """`distance` of a student's hidden states, from the embeddings on, see `hidden_states`."""
        own = states[1 : len(self._reference.layers) + 1]
        return distance(own, texts, self._reference.read(texts.batch))


@dataclass(frozen=True, slots=True)
class SeparateTexts:
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
        """Take pairs to pieces.

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


def distance(states: Sequence[Tensor], separate: SeparateTexts, alone: ReferenceStates) -> Tensor:
    """Distance of a student's states from those of the texts by themselves.

    Of each layer, and of the last one's mean over a text, the squared distance as a part of the
    encoder's variance; the mean over layers and the mean vectors' are added. A vector that is
    added to all queries, or to all passages, costs nothing: by such a vector the layers above can
    tell the two.

    Args:
        states: The student's, after each of the encoder's layers, see
            `hidden_states`.
        separate: The texts of the same batch.
        alone: The encoder's hidden states of them.

    Returns:
        A scalar; 0 where all is the same, and about 2 where nothing is.
    """
    hidden = alone.means.shape[1]
    own = [state[:, :hidden].float() for state in states]
    layers = [
        _distance(given, wanted.index_select(0, separate.counterparts), separate.sides)
        for given, wanted in zip(own, alone.states, strict=True)
    ]
    wanted = alone.means[separate.texts]
    pooled = _distance(means_of(own[-1], separate), wanted, separate.place_sides)
    return torch.stack(layers).mean() + pooled


def means_of(rows: Tensor, separate: SeparateTexts) -> Tensor:
    """The mean of each text's rows, shape (places, columns)."""
    places = len(separate.texts)
    sums = rows.new_zeros(places + 1, rows.shape[1]).index_add(0, separate.places, rows)
    return sums[:places] / torch.bincount(separate.places, minlength=places)[:places, None]


def _distance(given: Tensor, wanted: Tensor, sides: Tensor) -> Tensor:
    """The part of the variance that is not matched, whatever vector is added to a side.

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
