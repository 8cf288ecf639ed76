"""A loaded cross-encoder, as the scoring steps and the worker see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .base import ModelFacts
from .weights import Weights

if TYPE_CHECKING:
    from ..encoders.families import Checkpoint
    from ..encoders.tokenizer import Document, Query, TokenIds, TokenPair

TOKENS_PER_BATCH = 4096
"""Most tokens computed at once, unless one pair alone has more, by a model that has no better
number of its own."""


class PairReader(Protocol):
    """Turns queries and documents into a model's pairs of token ids.

    Attributes:
        special_tokens: Number of tokens of a pair that are neither the query's nor the document's.
        has_instruction: Whether the template has a place for an instruction.
    """

    special_tokens: int
    has_instruction: bool

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """The ids of each text, whole, without special tokens."""
        ...

    def beginnings(self, texts: Sequence[str], tokens: int) -> list[str]:
        """As much of each text as its first tokens stand for."""
        ...

    def documents(
        self,
        queries: Sequence[Query],
        documents: Sequence[str],
        limits: Sequence[int | None],
    ) -> list[Document]:
        """Tokenize documents, each to be read with the query of the same place.

        Args:
            queries: One for each document.
            documents: Texts.
            limits: How many first tokens of each to read; None for all.
        """
        ...


def facts_of(checkpoint: Checkpoint, dtype: str) -> ModelFacts:
    """Describe a checkpoint of a family of ours, computed in a dtype."""
    architecture = checkpoint.architecture
    limited = [window for window in architecture.windows if window is not None]
    return ModelFacts(
        architecture.max_length, dtype, checkpoint.family.name, min(limited, default=None)
    )


class PairModel(Protocol):
    """A loaded cross-encoder.

    Attributes:
        tokenizer: Its tokenizer.
        max_length: Longest pair it reads, in tokens.
        device: Where it runs; its worker has the same name.
        weights: Which weights it was loaded from.
        facts: What it is.
        batch_tokens: Most tokens that one call gives it at once, unless one pair alone has more;
            joined calls give it up to twice as many.
    """

    @property
    def tokenizer(self) -> PairReader: ...

    max_length: int
    device: str
    weights: Weights
    facts: ModelFacts
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
