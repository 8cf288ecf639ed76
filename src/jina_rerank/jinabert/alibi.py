"""Attention with linear biases, the symmetric kind: -slope * |i - j|, and no memory for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from .config import JinaBertConfig, Slopes

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def alibi_slopes(heads: int, variant: Slopes = "reranker") -> list[float]:
    """One slope a head.

    For a power of two, `2^(-8(i+1)/heads)` (Press et al., Train Short, Test Long,
    arXiv:2108.12409, and its reference code). Otherwise the slopes of the next lower power of
    two p, then every second one of those of 2p. The rerankers' own modelling code halves that
    second group; the paper, and the other JinaBERTs, do not.

    Args:
        heads: The number of attention heads.
        variant: `"reranker"` with the second group halved, `"paper"` as published; `"faint"`, for
            encoders that were not trained with ALiBi, a sixteenth of the reranker's.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-8 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    factor = 1.0 if variant == "paper" else 0.5
    slopes += [factor * slope for slope in between[: heads - power]]
    return [slope / 16 for slope in slopes] if variant == "faint" else slopes


def reaches(slopes: Sequence[float], window: int | None) -> list[float]:
    """How far each head sees, in tokens.

    Args:
        slopes: Of the heads.
        window: See `JinaBertConfig.attention_window`.

    Returns:
        The window, but infinity for the head with the smallest slope, which is there for what is
        far away; for all of them where there is no window.
    """
    farthest = min(range(len(slopes)), key=slopes.__getitem__)
    return [
        math.inf if window is None or head == farthest else window for head in range(len(slopes))
    ]


@dataclass(frozen=True, slots=True)
class Bias:
    """What is added to the scores of each head: less for each token between, and a limit.

    Attributes:
        slopes: Shape (heads,), float32. bf16 could not hold the bias: it is off by 0.5 at a
            distance of 500 and by 8 at 8,000.
        reaches: Shape (heads,), float32: beyond that distance a head sees nothing, but in short
            sequences: see `sees_whole`.
    """

    slopes: Tensor
    reaches: Tensor

    @classmethod
    def of(cls, config: JinaBertConfig, device: torch.device) -> Self:
        """What all layers but the last add."""
        import torch

        slopes = alibi_slopes(config.num_attention_heads, config.alibi_slopes)
        limits = reaches(slopes, config.attention_window)
        both = torch.tensor([slopes, limits], dtype=torch.float32, device=device)
        return cls(*both)

    def without_limits(self) -> Self:
        """What the last layer adds, whose first token is to see everything."""
        return replace(self, reaches=self.reaches.new_full(self.reaches.shape, math.inf))

    def sees_whole(self, lengths: Tensor | int) -> Tensor:
        """Which heads see all of a sequence: one of up to twice a head's reach.

        There a limit would save next to nothing.

        Args:
            lengths: Tokens of one sequence, or of each, shape (count, 1).

        Returns:
            Shape (heads,) or (count, heads), bool.
        """
        return lengths <= 2 * self.reaches

    def of_length(self, length: int) -> Self:
        """What is added in a sequence of so many tokens."""
        whole = self.sees_whole(length)
        return replace(self, reaches=self.reaches.masked_fill(whole, math.inf))

    def of_heads(self, heads: list[int] | slice) -> Self:
        """The bias of some heads, in that order."""
        return type(self)(self.slopes[heads], self.reaches[heads])

    def at(self, distance: Tensor) -> Tensor:
        """The bias at distances.

        Args:
            distance: Any shape, not negative.

        Returns:
            Shape (heads, ...), float32, minus infinity out of reach.
        """
        shape = (-1, *[1] * distance.ndim)
        bias = -self.slopes.view(shape) * distance
        return bias.masked_fill_(distance > self.reaches.view(shape), -math.inf)

    def reversed(self, rows: int, keys: int, offset: int) -> Tensor:
        """The bias of queries in reverse order on consecutive keys.

        The last query comes first. `|i - j|` then depends only on the sum of the row and the
        column, so the whole matrix is a view of one vector of `rows + keys - 1` numbers: for all
        queries and keys of 8,192 tokens and 12 heads 0.8 MB instead of 3.2 GB.

        Args:
            rows: The number of queries.
            keys: The number of keys.
            offset: The position of the last query, counted from the first key: `length - 1`
                where queries and keys are those of a whole sequence.

        Returns:
            Shape (1, heads, rows, keys), float32, rows overlapping in memory: to be read only.
        """
        import torch

        numbers = rows + keys - 1
        vector = self.at((torch.arange(numbers, device=self.slopes.device) - offset).abs_())
        return vector.as_strided((1, len(vector), rows, keys), (0, numbers, 1, 1))
