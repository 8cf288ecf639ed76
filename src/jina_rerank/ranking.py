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
        score: Its relevance to the query, higher is better. A local model's score is the
            sigmoid of the logit, in (0, 1); a service's score is kept as the service gave it.
        text: The document as it was given.
        logit: The model's raw output, or None where a service does not report it.
        tokens: Number of the document's own tokens that the model read, without the query and
            the special tokens; None where a service does not report it.
        truncated_tokens: Number of its tokens that were cut off and not read; None likewise.
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
        documents: Number of documents that were scored.
        tokens: Number of tokens that the model computed, with the query and the special tokens
            of each pair and the overlaps of chunks; a service's own count where it gives one;
            None where it does not.
        truncated_documents: Number of documents that were cut to fit; None where a service does
            not report it.
        truncated_query_tokens: Number of the query's tokens that were cut off; None likewise.
        cached_documents: Number of scores that came from a cache; None without a cache.
    """

    documents: int
    tokens: int | None = None
    truncated_documents: int | None = None
    truncated_query_tokens: int | None = None
    cached_documents: int | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds that each part of a call took, for a model in this process.

    Concurrent calls share batches; the seconds of a batch count for every call in it.

    Attributes:
        waiting: Waiting for the model while it was busy with other calls.
        tokenizing: Tokenizing and cutting texts, as far as nothing was computed meanwhile, and
            assembling the answer.
        computing: Computing in the model.
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
        usage: Cost of scoring.
        degraded: None for a complete answer; otherwise the reason why this one is partial or from
            a fallback. A threshold is not applied to such an answer: it was chosen for the model's
            own scores, and would empty the answer when it is needed most.
        unscored: The indices of documents without a score, in ascending order; empty unless the
            answer is degraded. Such documents keep the order in which they were given, after all
            scored documents, and their scores only express that order.
        timings: Time that each part of the call took, the same for all its rankings; None where
            a service does not report it. Comparisons of rankings ignore it.
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
