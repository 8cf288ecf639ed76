"""Interface of a loaded cross-encoder for the scoring steps and the worker."""

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
"""Most tokens in a batch, for a model that sets no better number; a single pair may have more."""


class PairReader(Protocol):
    """Turns queries and documents into a model's pairs of token ids.

    Attributes:
        special_tokens: Number of tokens of a pair that are neither the query's nor the document's.
        has_instruction: Whether the template has a place for an instruction.
    """

    special_tokens: int
    has_instruction: bool

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Tokenize each text whole, without special tokens."""
        ...

    def beginnings(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Cut each text to the part that its first tokens cover."""
        ...

    def documents(
        self,
        queries: Sequence[Query],
        documents: Sequence[str],
        limits: Sequence[int | None],
    ) -> list[Document]:
        """Tokenize documents, each for a pair with the query at the same position.

        Args:
            queries: One query for each document.
            documents: The texts of the documents.
            limits: Number of first tokens to read, for each document; None for all.
        """
        ...


def facts_of(checkpoint: Checkpoint, dtype: str) -> ModelFacts:
    """Describe a checkpoint of a native family that is computed in a dtype."""
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
        device: The device it runs on; its worker has the same name.
        weights: The weights it was loaded from.
        facts: Description of the model.
        batch_tokens: Most tokens in a batch of one call; a single pair may have more. A batch of
            joined calls has up to twice as many.
    """

    @property
    def tokenizer(self) -> PairReader: ...

    max_length: int
    device: str
    weights: Weights
    facts: ModelFacts
    batch_tokens: int

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        """Compute the logit of each pair, in order; neighbouring pairs are of similar length."""
        ...


@dataclass(frozen=True, slots=True)
class Computed:
    """Result of one step of a job.

    Attributes:
        logits: One for each pair, in order.
        seconds: Seconds for the whole batch, with the pairs of other jobs in it.
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
