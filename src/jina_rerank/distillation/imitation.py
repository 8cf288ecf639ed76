"""What a converted encoder knows, kept in pairs: each text's states are to be as if it stood alone.

An encoder of sentences gives near vectors to a question and its answer, and has learned that from
far more pairs than a student will see. In a pair its converted layers read both texts at once, and
that is lost. Here the student's lower layers learn to give the tokens of the query, and those of
the passage, the states that the encoder gives them when it reads the text by itself, so that the
layers above them need only learn to compare.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from transformers import BertModel

from .._quiet import quiet
from ..jinabert.tokenizer import PairTokenizer, TokenPair
from .comparison import gathered
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

    @torch.no_grad()
    def states(self, batch: TrainingBatch) -> list[Tensor]:
        """What it gives after each of `layers`, for the same tokens.

        Args:
            batch: Of sequences no longer than `longest`.

        Returns:
            Shape (tokens, hidden) each, float32.
        """
        states: list[Tensor] = []
        for group in batch.groups:
            every = self._bert(
                batch.input_ids[group.rows],
                attention_mask=group.mask.long(),
                output_hidden_states=True,
            ).hidden_states[1:]
            given = [every[layer] for layer in self.layers]
            if not states:
                shape = (batch.tokens, given[0].shape[-1])
                states = [torch.empty(shape, device=given[0].device) for _ in given]
            rows = group.rows[group.mask]
            for state, one in zip(states, given, strict=True):
                state[rows] = one[group.mask].float()
        return states

    def means(self, texts: Sequence[str], tokenizer: PairTokenizer) -> Tensor:
        """The mean vectors of texts, cut at 128 tokens; shape (texts, hidden)."""
        blank = tokenizer.pair(array("i"), array("i"))
        start, end = blank.input_ids[:1], blank.input_ids[-1:]
        cut = [start + ids[:126] + end for ids in tokenizer.encode(texts)]
        pairs = [TokenPair(ids, array("i", [0]) * len(ids)) for ids in cut]
        return torch.cat(
            [
                self.read(TrainingBatch.of(pairs[at : at + 64], self._bert.device)).means
                for at in range(0, len(pairs), 64)
            ]
        )

    def read(self, batch: TrainingBatch) -> Read:
        """Its states, and their mean over each text."""
        states = self.states(batch)
        parts = torch.split(states[-1], list(batch.lengths))
        return Read(states, torch.stack([text.mean(0) for text in parts]))


@dataclass(frozen=True, slots=True)
class Read:
    """What the original makes of texts by themselves.

    Attributes:
        states: After each layer, shape (tokens, hidden).
        means: Of the last states, which is how sentence encoders tell what a text means; shape
            (texts, hidden).
    """

    states: Sequence[Tensor]
    means: Tensor


@dataclass(frozen=True, slots=True)
class Apart:
    """The texts of pairs, each by itself.

    Tokens of a pair that have no counterpart, special ones and those of texts that are blank or
    too long, belong to neither side and to a text behind the last.

    Attributes:
        batch: The texts, each between its special tokens; one that several pairs have, once.
        sides: Which of the pairs' rows hold tokens of queries, and which of passages; 1 or 0,
            shape (2, rows).
        counterparts: Where each row's token is in `batch`, shape (rows,).
        places: Which text in which pair a row belongs to, counted from 0, shape (rows,).
        texts: Which text of `batch` is in each of those places, shape (places,).
        place_sides: As `sides`, of the places, shape (2, places).
        whole: The pairs both of whose texts are there, shape (whole pairs,).
        both: Their query and passage in `batch`, shape (whole pairs, 2).
    """

    batch: TrainingBatch
    sides: Tensor
    counterparts: Tensor
    places: Tensor
    texts: Tensor
    place_sides: Tensor
    whole: Tensor
    both: Tensor

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
            rows: Of the pairs' own batch.
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
        whole: list[int] = []
        both: list[list[int]] = []
        for number, pair in enumerate(pairs):
            query = len(pair) - sum(pair.token_type_ids)
            parts = (pair.input_ids[:query], pair.input_ids[:1] + pair.input_ids[query:])
            starts = (start + 1, start + query)
            start += len(pair)
            here: list[int] = []
            for side, (ids, at) in enumerate(zip(parts, starts, strict=True)):
                if not 2 < len(ids) <= longest:
                    continue
                text = texts.setdefault(ids.tobytes(), len(alone))
                if text == len(alone):
                    alone.append(TokenPair(ids, array("i", [0]) * len(ids)))
                    first.append(tokens)
                    tokens += len(ids)
                inner = len(ids) - 2
                own = slice(at, at + inner)
                sides[side, own] = 1
                counterparts[own] = torch.arange(first[text] + 1, first[text] + 1 + inner)
                places[own] = len(found)
                found.append((text, side))
                here.append(text)
            if len(here) == len(parts):
                whole.append(number)
                both.append(here)
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
            whole=torch.tensor(whole, dtype=torch.int64, device=device),
            both=torch.tensor(both, dtype=torch.int64, device=device).view(-1, 2),
        )


def distance(states: Sequence[Tensor], apart: Apart, alone: Read) -> Tensor:
    """How far a student's states are from those of the texts by themselves.

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
    layers = [
        _distance(given.float(), wanted.index_select(0, apart.counterparts), apart.sides)
        for given, wanted in zip(states, alone.states, strict=True)
    ]
    wanted = alone.means[apart.texts]
    pooled = _distance(_means(states[-1].float(), apart), wanted, apart.place_sides)
    return torch.stack(layers).mean() + pooled


def ungathered(first: Tensor, apart: Apart, alone: Read, directions: Tensor) -> Tensor:
    """How far the first tokens below the last layer are from what `gathered` says.

    Args:
        first: Their states, shape (pairs, hidden).
        apart: The texts of the same batch.
        alone: What the original makes of them.
        directions: See `directions_of`.

    Returns:
        The squared distance as a part of the squared length, a scalar.
    """
    queries, passages = alone.means[apart.both].unbind(1)
    wanted = gathered(queries, passages, directions)
    error = first[apart.whole].float() - wanted
    return error.square().sum() / wanted.square().sum().clamp(min=1)


@dataclass(frozen=True, slots=True)
class Imitation:
    """What a student that compares is to keep of its original.

    Attributes:
        original: Whom it imitates.
        directions: See `directions_of`.
    """

    original: Original
    directions: Tensor

    def missed(
        self, states: Sequence[Tensor], first: Tensor, apart: Apart
    ) -> tuple[Tensor, Tensor]:
        """`distance` and `ungathered`.

        Args:
            states: `hidden_states` below the last layer.
            first: The rows of the first tokens.
            apart: The texts of the same batch.
        """
        alone = self.original.read(apart.batch)
        own = states[1 : len(self.original.layers) + 1]
        gathering = states[-1][first]
        return distance(own, apart, alone), ungathered(gathering, apart, alone, self.directions)


def _means(rows: Tensor, apart: Apart) -> Tensor:
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
