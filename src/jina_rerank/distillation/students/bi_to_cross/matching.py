"""Encoder matching in pairs: train a text's hidden states to be those of the text alone.

A sentence encoder gives a question and its answer similar vectors. It learned that from far more
pairs than a student will see. The student initially reads the two texts of a pair separately, see
`layers`, but with ALiBi instead of the encoder's position embeddings. Encoder matching trains it to
give the tokens of both texts the encoder's hidden states in spite of that.
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
        """See `AuxiliaryLoss`; None if all texts are blank or too long."""
        device = batch.input_ids.device
        texts = SeparateTexts.of(pairs, len(batch.input_ids), self._reference.longest, device)
        if texts is None:
            return None
        return lambda states: self.loss(states, texts)

    def loss(self, states: Sequence[Tensor], texts: SeparateTexts) -> Tensor:
        """Compute `distance` for a student's hidden states.

        Args:
            states: The embeddings and the output of each layer, see `hidden_states`.
            texts: The texts of the same batch.
        """
        own = states[1 : len(self._reference.layers) + 1]
        return distance(own, texts, self._reference.read(texts.batch))


@dataclass(frozen=True, slots=True)
class SeparateTexts:
    """The texts of a batch of pairs, as separate sequences.

    The [SEP] behind a text is one of its tokens. Some tokens of a pair have no counterpart: [CLS],
    and the tokens of texts that are blank or too long. Their `sides` are 0, and their place is the
    number of places.

    Attributes:
        batch: The texts, each between special tokens. A text of several pairs is there once.
        sides: Masks of the pairs' rows with tokens of queries and with tokens of passages; 1 or 0,
            shape (2, rows).
        counterparts: The row in `batch` of each row's token, shape (rows,).
        places: The place of each row, shape (rows,). A place is one text of one pair; places are
            counted from 0.
        texts: The index in `batch` of each place's text, shape (places,).
        place_sides: As `sides`, for places, shape (2, places).
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
        """Split pairs into their texts.

        Args:
            pairs: Pairs as the tokenizer of `convert_bert` makes them: [CLS] query [SEP] passage
                [SEP], of type 0 up to the first [SEP] and of type 1 after it.
            rows: Number of rows of the pairs' batch.
            longest: Maximum number of tokens of a text with its special tokens; longer texts are
                left out.
            device: Device of the tensors.

        Returns:
            The texts; None if all of them are blank or too long.
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
    """Distance of a student's hidden states from the encoder's states of the separate texts.

    The distance is the sum of two terms, both squared distances divided by the variance of the
    encoder's states: the mean over the layers, and the distance of the last layer's mean vectors
    over the texts. A vector that is added to all queries, or to all passages, costs nothing, so
    that the layers above can tell queries and passages apart by it.

    Args:
        states: The student's hidden states after each of the encoder's layers, see
            `hidden_states`.
        separate: The texts of the same batch.
        alone: The encoder's hidden states of these texts.

    Returns:
        A scalar: 0 if all states are equal, and about 2 if nothing is matched.
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
    """Compute the mean of each text's rows, shape (places, columns)."""
    places = len(separate.texts)
    sums = rows.new_zeros(places + 1, rows.shape[1]).index_add(0, separate.places, rows)
    return sums[:places] / torch.bincount(separate.places, minlength=places)[:places, None]


def _distance(given: Tensor, wanted: Tensor, sides: Tensor) -> Tensor:
    """Compute the fraction of the variance that is not matched, up to a vector for each side.

    The sums run over all rows; rows of neither side have weight 0. To select rows would make the
    backward pass slower.
    """
    error = _variation(given - wanted, sides)
    return error / _variation(wanted, sides.sum(0, keepdim=True))


def _variation(rows: Tensor, sides: Tensor) -> Tensor:
    """Sum the squared distances of rows to the mean of their side."""
    squares = sides.sum(0) @ rows.square().sum(1)
    of_means = (sides @ rows).square().sum(1) / sides.sum(1).clamp(min=1)
    return squares - of_means.sum()
