"""Results of a call to the reranker: frozen values, safe to share and to pickle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, overload


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """One document of a ranking.

    Attributes:
        index: Its position in the documents that were given, from 0.
        score: Its relevance to the query, higher is better. Local models answer the
            sigmoid of the logit, in (0, 1); a service's score is kept as the service gave it.
        text: The document as it was given.
        logit: The model's raw output, or None where a service does not tell it.
        tokens: How many of the document's own tokens the model read, without the query and
            the special tokens; None where a service does not tell it.
        truncated_tokens: How many of its tokens were cut off and not read; None likewise.
    """

    index: int
    score: float
    text: str
    logit: float | None = None
    tokens: int | None = None
    truncated_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Cost of scoring one query, over all its documents and not only those returned.

    Attributes:
        documents: How many documents were scored.
        tokens: How many tokens the model computed, with the query and the special tokens of
            each pair and the overlaps of chunks; a service's own count where it gives one;
            None where it does not.
        truncated_documents: How many documents were cut to fit; None where a service does
            not tell it.
        truncated_query_tokens: How many tokens of the query were cut off; None likewise.
        cached_documents: How many scores came from a cache; None where there is none.
    """

    documents: int
    tokens: int | None = None
    truncated_documents: int | None = None
    truncated_query_tokens: int | None = None
    cached_documents: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the seconds of a call went whose model is in this process.

    Calls that are made together share batches: a batch's seconds are those of every call in it.

    Attributes:
        waiting: For the model, while it was busy with other calls.
        tokenizing: Reading and cutting texts, as far as nothing was computed meanwhile, and
            putting the answer together.
        computing: In the model.
    """

    waiting: float
    tokenizing: float
    computing: float


@dataclass(frozen=True, slots=True)
class Ranking(Sequence[RankedDocument]):
    """The best documents for one query, best first: a read-only sequence of its hits.

    Ordered by score descending, and by index ascending where scores are equal.

    Attributes:
        hits: The documents that remain after `top_n` and `threshold`.
        model: The name of the model that scored them.
        usage: What it cost.
        degraded: None for a whole answer; otherwise the reason why this one is second best. A
            threshold is not applied to such an answer: it was chosen for the model's own scores,
            and would empty the answer when it is needed most.
        unscored: The indices of documents that nothing has scored, in ascending order; empty
            unless the answer is degraded. Such documents keep the order in which they were
            given, behind all that were scored, and their scores only say that order.
        timings: Where the time of the call went, which all its rankings share; None where a
            service does not tell it. Rankings are equal whatever time they took.
    """

    hits: tuple[RankedDocument, ...]
    model: str
    usage: Usage
    degraded: str | None = None
    unscored: tuple[int, ...] = ()
    timings: Timings | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[RankedDocument]:
        return iter(self.hits)

    @overload
    def __getitem__(self, position: int) -> RankedDocument: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[RankedDocument, ...]: ...
    def __getitem__(self, position: int | slice) -> RankedDocument | tuple[RankedDocument, ...]:
        return self.hits[position]

    def to_dict(self) -> dict[str, Any]:
        """The ranking as plain dicts, lists, strings and numbers, ready for JSON."""
        return asdict(self)
