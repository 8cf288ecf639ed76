"""The `Scorer` protocol: the interface between the reranker and everything that scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from ..errors import InputError
from ..ranking import Timings, Usage

LongDocuments = Literal["truncate", "chunk", "error"]
"""Treatment of a document that does not fit: read its beginning, read all of it in windows and take
the best window's score, or refuse it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a call in computed tokens, which determine its time.

    Attributes:
        tokens: Number of tokens that have been computed.
        remaining_tokens: Number of tokens still to be computed. An estimate while texts are not
            tokenized, and always where a service tokenizes them. Tokens that need not be computed,
            because a cache has the score or a part has failed, are in neither number.
    """

    tokens: int
    remaining_tokens: int


OnScored = Callable[[Progress], object]
"""Callback for the progress of a call, called on the thread that scores. A call that begins again,
with another scorer for instance, counts from 0 again."""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One query and the documents to score against it, already checked.

    A scorer applies the options or refuses them with an `InputError` that names the option; it
    never ignores one. See `refuse_options`.

    Attributes:
        query: The query; not blank.
        documents: The documents; at least one.
        name: Prefix for this request in errors: empty, or such as `"pairs[2]."`.
        long_documents: Replaces the scorer's own setting; None keeps it.
        max_document_tokens: Most tokens of each document that are read, without special tokens;
            None is as many as fit. The rest is left out as requested, and is not counted as
            truncated.
        instruction: What makes a document relevant, in words, for models whose template has a
            place for it; None is the model's own. Not blank.
    """

    query: str
    documents: Sequence[str]
    name: str = ""
    long_documents: LongDocuments | None = None
    max_document_tokens: int | None = None
    instruction: str | None = None


def refuse_options(
    requests: Iterable[ScoreRequest], who: str, *, long_documents: Iterable[LongDocuments] = ()
) -> None:
    """Refuse requests with options that a scorer does not have.

    Args:
        requests: The requests of a call.
        who: The scorer's name in errors.
        long_documents: The values of that option which the scorer has.

    Raises:
        InputError: A request has another value of `long_documents`, a limit for its documents, or
            an instruction.
    """
    had = {None, *long_documents}
    for request in requests:
        if request.long_documents not in had:
            raise InputError(
                f"{request.name}long_documents",
                f"{who} does not have {request.long_documents!r}; leave it out",
            )
        if request.max_document_tokens is not None:
            raise InputError(
                f"{request.name}max_document_tokens",
                f"{who} cannot cut documents at a token; leave it out",
            )
        refuse_instruction(request, who)


class NoInstructionError(InputError):
    """A request has an instruction, but its scorer or model takes none."""


def refuse_instruction(request: ScoreRequest, who: str) -> None:
    """Refuse a request with an instruction, which most models have no place for.

    Args:
        request: A request of a call.
        who: The name of the scorer or the model in errors.

    Raises:
        NoInstructionError: The request has an instruction.
    """
    if request.instruction is not None:
        raise NoInstructionError(f"{request.name}instruction", f"{who} takes none; leave it out")


@dataclass(frozen=True, slots=True)
class ScoreResponse:
    """The answer to one request: columns with one value for each document, in its order.

    Columns are used because a hundred thousand small objects would keep the garbage collector busy,
    and with it all threads. A column that a scorer cannot provide is None.

    Attributes:
        scores: The documents' scores; higher is more relevant.
        usage: Cost of scoring.
        logits: See `RankedDocument.logit`.
        tokens: See `RankedDocument.tokens`.
        truncated_tokens: See `RankedDocument.truncated_tokens`.
        degraded: The reason why the answer is partial or from a fallback, or None.
        unscored: See `Ranking.unscored`; only a degraded answer has any.
        model: The name of the model that scored, if it is not the scorer's `model`.
        timings: See `Ranking.timings`.
    """

    scores: Sequence[float]
    usage: Usage
    logits: Sequence[float] | None = None
    tokens: Sequence[int] | None = None
    truncated_tokens: Sequence[int] | None = None
    degraded: str | None = None
    unscored: tuple[int, ...] = ()
    model: str | None = None
    timings: Timings | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Description of a loaded model.

    Attributes:
        max_tokens: Longest pair that is read, in tokens.
        dtype: The dtype it computes in, such as `"bfloat16"`.
        family: Its family, such as `"ModernBERT"`; None if another library runs the model.
        window: Largest distance that a token attends to on either side, in tokens, in layers where
            that is limited; None if it is not limited, or if another library runs the model.
    """

    max_tokens: int
    dtype: str
    family: str | None = None
    window: int | None = None


@runtime_checkable
class Scorer(Protocol):
    """Scores documents against queries, on this machine or elsewhere.

    A scorer is safe to share between threads and event loops, and to pickle. Building one is
    cheap: expensive work is left to `warm_up` or the first call.
    """

    @property
    def model(self) -> str:
        """The name of the model, as shown in `Ranking.model`."""
        ...

    def warm_up(self) -> None:
        """Make the first call as fast as the rest. Idempotent."""
        ...

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        ...

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request.

        Args:
            requests: The queries with their documents. They come in one call, so that the pairs
                of all of them can share batches.
            on_scored: Called as tokens are computed.

        Returns:
            One response for each request, in the same order.

        Raises:
            RerankError: Scoring failed. No other kind of error is raised on purpose.
        """
        ...

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops the work."""
        ...

    def close(self) -> None:
        """Release the model or the connections. Idempotent."""
        ...

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        ...


@runtime_checkable
class CacheableScorer(Scorer, Protocol):
    """A scorer whose scores may be kept and used again."""

    @property
    def fingerprint(self) -> str:
        """All that determines the scores besides query and document, as one line of text.

        Two scorers with the same fingerprint give a pair the same score, in any process and at
        any time. It holds no key.
        """
        ...

    @property
    def listwise(self) -> bool:
        """Tell whether a document's score depends on the documents that are scored with it."""
        ...


@runtime_checkable
class DownloadingScorer(CacheableScorer, Protocol):
    """A scorer whose weights may have to be downloaded, and are part of its fingerprint."""

    @property
    def has_weights(self) -> bool:
        """Tell whether the weights are on this machine; the fingerprint lacks them otherwise."""
        ...


def identity_of(scorer: Scorer) -> str:
    """Return a text that is the same in every process for scorers that give the same scores.

    It is the fingerprint of a scorer that has one; weights that are not on this machine yet are
    loaded for it. A scorer without fingerprint is recognized by its `repr`, or by its class and
    model if it has only Python's, which holds an address.

    Args:
        scorer: The scorer.

    Raises:
        RerankError: As `Scorer.warm_up`.
    """
    if not isinstance(scorer, CacheableScorer):
        own = type(scorer).__repr__ is not object.__repr__
        return repr(scorer) if own else f"{type(scorer).__qualname__}({scorer.model!r})"
    if isinstance(scorer, DownloadingScorer) and not scorer.has_weights:
        scorer.warm_up()
    return scorer.fingerprint
