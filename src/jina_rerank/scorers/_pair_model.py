"""A loaded cross-encoder, as the scoring steps and the worker see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .weights import Weights

if TYPE_CHECKING:
    from ..encoders.tokenizer import PairTokenizer, TokenPair

TOKENS_PER_BATCH = 4096
"""Most tokens computed at once, unless one pair alone has more, by a model that has no better
number of its own."""


class PairModel(Protocol):
    """A loaded cross-encoder.

    Attributes:
        tokenizer: Its tokenizer.
        max_length: Longest pair it reads, in tokens.
        device: Where it runs; its worker has the same name.
        weights: Which weights it was loaded from.
        batch_tokens: Most tokens that one call gives it at once, unless one pair alone has more;
            joined calls give it up to twice as many.
    """

    tokenizer: PairTokenizer
    max_length: int
    device: str
    weights: Weights
    batch_tokens: int

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        """The logit of each pair, in order; neighbours are of similar length."""
        ...


@dataclass(frozen=True, slots=True)
class Computed:
    """Result of a job.

    Attributes:
        logits: One for each pair, in order.
        seconds: What computing them took, together with those of other jobs.
    """

    logits: Sequence[float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pairs whose logits a job waits for."""

    model: PairModel
    pairs: Sequence[TokenPair]

    @property
    def tokens(self) -> int:
        """Number of tokens in all pairs."""
        return sum(len(pair) for pair in self.pairs)
