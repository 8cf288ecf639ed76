"""Sequences that lie one after another in one matrix of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor


class Sequences:
    """Positions of the sequences of a batch in its rows.

    Args:
        lengths: Number of tokens of each sequence, at least 1. Attention is fastest where sequences
            of equal length are neighbours, and right in any order.
        device: Device of the tensors of indices.

    Attributes:
        lengths: As given.
        first: Row of each sequence's first token, shape (sequences,), int64.
        angles: Cosines and sines of the tokens' places by theta, for each theta used so far.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = lengths
        self.first = torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)
        self.angles: dict[float, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(self.lengths)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """Runs of neighbouring sequences of equal length: the length and the number of each run."""
        return [(length, len(list(run))) for length, run in groupby(self.lengths)]

    def spans(self) -> Iterator[tuple[slice, int, int]]:
        """Iterate over the rows of each run, its sequences' length and their number."""
        start = 0
        for length, count in self.runs:
            yield slice(start, start + length * count), length, count
            start += length * count

    @cached_property
    def of_tokens(self) -> Tensor:
        """Number of the sequence that each token belongs to, shape (tokens,), int64."""
        lengths = torch.tensor(self.lengths, device=self.first.device)
        numbers = torch.arange(len(self), device=self.first.device)
        return numbers.repeat_interleave(lengths)

    @cached_property
    def places(self) -> Tensor:
        """Place of each token in its sequence, from 0, shape (tokens,), int64."""
        index = torch.arange(self.tokens, device=self.first.device)
        return index - self.first[self.of_tokens]

    def means(self, rows: Tensor) -> Tensor:
        """Average the tokens of each sequence.

        Args:
            rows: Shape (tokens, hidden).

        Returns:
            Shape (sequences, hidden).
        """
        lengths = torch.tensor(self.lengths, device=rows.device)
        sums = rows.new_zeros(len(self), rows.shape[1]).index_add(0, self.of_tokens, rows)
        return sums / lengths[:, None]
