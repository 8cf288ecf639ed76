"""`Reranker`: check the input, score it with a scorer, sort the documents, cut the list."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from types import TracebackType
from typing import Self, TypeVar

from ._inputs import check_items, check_request, check_scorer, check_threshold, check_top_n
from .errors import InputError, ScoringError
from .ranking import RankedDocument, Ranking, Usage
from .scorers.base import OnScored, Progress, Scorer, ScoreRequest, ScoreResponse
from .spec import scorer_of

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Reranker:
    """Puts the documents that answer a query first.

    Building one is cheap; the model is loaded by `warm_up` or by the first call, once for all
    rerankers in the process that use the same one. Safe to share between threads and between
    event loops.

    Args:
        model: None or `jina-rerank-mini` for the embedded model (offline, no key); a hub id or a
            folder; another name such as `"cross-encoder:NAME"` or `"remote:MODEL@URL"`, see
            `scorer_of`; or any `Scorer`.

    Raises:
        ConfigurationError: `model` is none of these.
        AuthenticationError: There is no key for a hosted service.
    """

    def __init__(self, model: str | PathLike[str] | Scorer | None = None) -> None:
        if model is None or isinstance(model, str | PathLike):
            self._scorer: Scorer = scorer_of(model)
        else:
            self._scorer = check_scorer(
                model, "model", "a hub id, a folder or a scorer such as LocalScorer(...)"
            )

    def __repr__(self) -> str:
        return f"Reranker({self._scorer!r})"

    @property
    def scorer(self) -> Scorer:
        """The scorer."""
        return self._scorer

    @property
    def model(self) -> str:
        """The name of the model: a hub id, a folder, or `"jina-rerank-mini"`."""
        return self._scorer.model

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        threshold: float | None = None,
        progress: bool = False,
    ) -> Ranking:
        """Rank documents by their relevance to the query, best first.

        Args:
            query: The question; not blank.
            documents: The candidates. An empty list gives an empty ranking.
            top_n: Number of documents to keep, at least 1; None, or more than there are, keeps
                all.
            threshold: Lowest score to keep; None keeps all. A degraded answer ignores it.
            progress: Show a progress bar on standard error; it counts tokens.

        Returns:
            The ranking. Equal scores keep the order of `documents`.

        Raises:
            InputError: An argument cannot be used; the message names it and says what to do.
            ModelLoadError: The model cannot be loaded.
            ScoringError: A score came out as NaN, or the process was forked.
        """
        top_n, threshold = check_top_n(top_n), check_threshold(threshold)
        (ranking,) = self._rank([check_request(query, documents)], top_n, threshold, progress)
        return ranking

    async def arank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        threshold: float | None = None,
        progress: bool = False,
    ) -> Ranking:
        """`rank` without blocking the event loop; cancelling it stops the work."""
        top_n, threshold = check_top_n(top_n), check_threshold(threshold)
        request = await asyncio.to_thread(check_request, query, documents)
        (ranking,) = await self._arank([request], top_n, threshold, progress)
        return ranking

    def rank_many(
        self,
        pairs: Iterable[tuple[str, Sequence[str]]],
        *,
        top_n: int | None = None,
        threshold: float | None = None,
        progress: bool = False,
    ) -> list[Ranking]:
        """`rank` for many queries at once, faster than one by one: they share batches.

        Args:
            pairs: Queries, each with its own documents.
            top_n: As for `rank`, for each query.
            threshold: As for `rank`.
            progress: As for `rank`.

        Returns:
            One ranking for each query, in the same order.

        Raises:
            InputError: As for `rank`; the message names the pair, as in `"pairs[2].query"`.
            ModelLoadError: As for `rank`.
            ScoringError: As for `rank`.
        """
        top_n, threshold = check_top_n(top_n), check_threshold(threshold)
        return self._rank(_check_pairs(pairs), top_n, threshold, progress)

    async def arank_many(
        self,
        pairs: Iterable[tuple[str, Sequence[str]]],
        *,
        top_n: int | None = None,
        threshold: float | None = None,
        progress: bool = False,
    ) -> list[Ranking]:
        """`rank_many` without blocking the event loop; cancelling it stops the work."""
        top_n, threshold = check_top_n(top_n), check_threshold(threshold)
        # In a thread, as in arank: reading 100,000 documents would block the loop.
        requests = await asyncio.to_thread(_check_pairs, pairs)
        return await self._arank(requests, top_n, threshold, progress)

    async def arank_requests(
        self,
        requests: Sequence[ScoreRequest],
        *,
        top_n: int | None = None,
        threshold: float | None = None,
    ) -> list[Ranking]:
        """Rank requests that have their own options, without checking their texts.

        This is for services, which check the texts of a request when it arrives.

        Args:
            requests: Queries with their documents and options; see `ScoreRequest`.
            top_n: As for `rank`, for each request.
            threshold: As for `rank`.

        Returns:
            One ranking for each request, in the same order.

        Raises:
            InputError: A document is too long where its request does not allow that, or the
                scorer does not have an option; the message names the request.
            ModelLoadError: As for `rank`.
            ScoringError: As for `rank`.
        """
        top_n, threshold = check_top_n(top_n), check_threshold(threshold)
        return await self._arank(requests, top_n, threshold, False)

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """Compute the score of every document, in the order given; errors as for `rank`.

        That an answer is degraded is only logged, as a warning; `rank` returns the reason.
        """
        return _in_order_given(self.rank(query, documents))

    async def ascore(self, query: str, documents: Sequence[str]) -> list[float]:
        """`score` without blocking the event loop."""
        return _in_order_given(await self.arank(query, documents))

    def warm_up(self) -> None:
        """Load the model now instead of at the first call. Idempotent."""
        self._scorer.warm_up()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self._scorer.awarm_up()

    def close(self) -> None:
        """Release the model; it is freed if no other scorer uses it. Idempotent."""
        self._scorer.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        await self._scorer.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _rank(
        self,
        requests: Sequence[ScoreRequest],
        top_n: int | None,
        threshold: float | None,
        progress: bool,
    ) -> list[Ranking]:
        filled = _without_empty(requests)
        with _progress(progress) as on_scored:
            responses = self._scorer.score(filled, on_scored) if filled else []
        return self._order(requests, responses, top_n, threshold)

    async def _arank(
        self,
        requests: Sequence[ScoreRequest],
        top_n: int | None,
        threshold: float | None,
        progress: bool,
    ) -> list[Ranking]:
        filled = _without_empty(requests)
        with _progress(progress) as on_scored:
            responses = await self._scorer.ascore(filled, on_scored) if filled else []
        return await asyncio.to_thread(self._order, requests, responses, top_n, threshold)

    def _order(
        self,
        requests: Sequence[ScoreRequest],
        responses: Sequence[ScoreResponse],
        top_n: int | None,
        threshold: float | None,
    ) -> list[Ranking]:
        """Make a ranking of each request; `responses` belong to the requests with documents."""
        expected = len(_without_empty(requests))
        if len(responses) != expected:
            raise ScoringError(f"{self.model} answered {len(responses)} of {expected} requests")
        answers = iter(responses)
        return [
            _order_one(request, next(answers), self.model, top_n, threshold)
            if request.documents
            else Ranking(hits=(), model=self.model, usage=Usage(documents=0, tokens=0))
            for request in requests
        ]


def _check_pairs(pairs: Iterable[tuple[str, Sequence[str]]]) -> list[ScoreRequest]:
    requests = []
    items = check_items(pairs, "pairs", "(query, documents) pairs", "for one pair pass [pair]")
    for i, pair in enumerate(items):
        if isinstance(pair, str | bytes) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InputError(f"pairs[{i}]", "must be a pair of (query, documents)")
        query, documents = pair
        requests.append(check_request(query, documents, name=f"pairs[{i}]."))
    return requests


def _without_empty(requests: Sequence[ScoreRequest]) -> list[ScoreRequest]:
    return [request for request in requests if request.documents]


def _order_one(
    request: ScoreRequest,
    response: ScoreResponse,
    model: str,
    top_n: int | None,
    threshold: float | None,
) -> Ranking:
    scores = [float(score) for score in response.scores]
    if len(scores) != len(request.documents):
        raise ScoringError(
            f"{model} answered {len(scores)} scores for {len(request.documents)} documents"
        )
    for i, score in enumerate(scores):
        # With a NaN among its keys, sorted() returns an order without meaning.
        if not math.isfinite(score):
            raise ScoringError(f"{model} scored {request.name}documents[{i}] as {score}")
    for i, logit in enumerate(response.logits or ()):
        # The score of an infinite logit, its sigmoid, is finite.
        if not math.isfinite(logit) and i not in response.unscored:
            raise ScoringError(f"{model} gave {request.name}documents[{i}] the logit {logit}")
    if response.degraded is not None:
        threshold = None  # see Ranking.degraded
    kept = [i for i, score in enumerate(scores) if threshold is None or score >= threshold]
    # sorted is stable, so equal scores keep the order of the documents.
    kept = sorted(kept, key=scores.__getitem__, reverse=True)[:top_n]
    hits = tuple(
        RankedDocument(
            index=i,
            score=scores[i],
            text=request.documents[i],
            logit=_value(response.logits, i),
            tokens=_value(response.tokens, i),
            truncated_tokens=_value(response.truncated_tokens, i),
        )
        for i in kept
    )
    return Ranking(
        hits,
        response.model or model,
        response.usage,
        response.degraded,
        response.unscored,
        response.timings,
    )


def _value(column: Sequence[T] | None, i: int) -> T | None:
    return None if column is None else column[i]


def _in_order_given(ranking: Ranking) -> list[float]:
    if ranking.degraded is not None:
        logger.warning("the scores are degraded: %s", ranking.degraded)
    return [hit.score for hit in sorted(ranking, key=lambda hit: hit.index)]


@contextmanager
def _progress(show: bool) -> Iterator[OnScored | None]:
    if not show:
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit=" tokens", unit_scale=True, desc="rerank") as bar:

        def update(progress: Progress) -> None:
            bar.total = progress.tokens + progress.remaining_tokens
            bar.update(progress.tokens - bar.n)

        yield update
        # The total is 0 if nothing was computed or the scorer does not report progress.
        bar.leave = bool(bar.total)
