"""The engine under all dialects: models by name, authorization, limits, queue and deadline."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, TypeVar

from starlette.requests import Request

from .._inputs import check_request, check_threshold, check_top_n
from .._numbers import sum_if_known
from ..errors import ConfigurationError, InputError, ServiceError
from ..ranking import Ranking, Usage
from ..reranker import Reranker
from ..scorers.base import NoInstructionError, ScoreRequest
from .admission import Queue, estimate_tokens
from .dialect import RankJob, ScoreJob
from .hosts import check_host
from .idle import Idle
from .keys import Keys
from .limits import BODIES_AT_ONCE, Bodies
from .metrics import Metrics
from .pulse import Pulse
from .refusals import (
    ClientGone,
    DeadlineExceeded,
    Draining,
    TooLarge,
    TooLong,
    UnknownModel,
)
from .served import ServedModel, find_models, in_served_names
from .settings import Settings
from .tracing import ranking as traced

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Engine:
    """Ranks for all dialects.

    Pairs of concurrent requests share batches, and each request gets its turn. The model's thread
    does both, so a request is handed to it as soon as it is admitted.

    Args:
        settings: Limits, keys and names.
        models: Models to serve; None for those of the settings.

    Raises:
        ConfigurationError: Two models have the same name, or the keys cannot be read.

    Attributes:
        settings: The settings.
        models: Names of the served models; the first is the default.
        served: The served models, in the same order.
        queue: All requests that wait or are being answered.
        bodies: The bodies of all requests that are being read or answered.
        metrics: Metrics of the engine.
        idle: Unloader of idle models.
        failure: Error that prevented a model from being loaded, or None.
    """

    failure: Exception | None = None

    def __init__(self, settings: Settings, models: Sequence[ServedModel] | None = None) -> None:
        self.settings = settings
        served = find_models(settings) if models is None else models
        self.served = tuple(served)
        self._models = {model.name: model for model in served}
        if len(self._models) != len(served):
            raise ConfigurationError("models: two have the same name")
        self.models = tuple(self._models)
        self._keys = Keys(settings.keys, settings.key_file)
        self.queue = Queue(settings.max_queued_tokens)
        self.bodies = Bodies(BODIES_AT_ONCE * settings.max_body_bytes)
        self.metrics = Metrics(self.queue, self.bodies)
        computing = [model.reranker for model in served if model.runs_here]
        computing += [Reranker(model.fallback_scorer) for model in served if model.fallback_scorer]
        self._pulse = Pulse(computing, settings.deadline)
        in_process = {model.name: model.in_process for model in served}
        self.idle = Idle(
            {name: own for name, own in in_process.items() if own is not None},
            settings.idle_unload,
        )
        self._warm = False
        self._draining = False
        self._closing = False

    @property
    def ready(self) -> bool:
        """True if the service accepts requests: the models are loaded, and it is not draining."""
        return self._warm and not self._draining

    @property
    def loading(self) -> bool:
        """True while the models are loaded for the first time."""
        return not self._warm and self.failure is None

    @property
    def draining(self) -> bool:
        """True if the process is about to end; new requests are still answered."""
        return self._draining

    @property
    def state(self) -> str:
        """State in one word: loading, ready, draining or failed."""
        if self.failure is not None:
            return "failed"
        if self._draining:
            return "draining"
        return "ready" if self._warm else "loading"

    async def start(self) -> None:
        """Run `warm_up` in the background; an error is kept as `failure`."""
        try:
            await self.warm_up()
        except Exception as error:
            self.failure = error
            logger.exception("a model cannot be loaded")

    async def warm_up(self) -> None:
        """Load all models of this process and have each compute something.

        Raises:
            RerankError: A model cannot be loaded, or does not compute.
        """
        for model in self._models.values():
            started = time.perf_counter()
            if model.runs_here:
                await model.reranker.arank("ready?", ["ready"])
            else:
                await model.reranker.awarm_up()
            logger.info(
                "warm", extra={"model": model.name, "seconds": time.perf_counter() - started}
            )
        self._warm = True

    async def hangs(self) -> bool:
        """Return True if a model has work but has computed nothing for `Settings.deadline`.

        Raises:
            RerankError: A model does not compute at all.
        """
        return self._warm and await self._pulse.hangs()

    async def pulse(self) -> Literal["live", "hanging", "failing"]:
        """Return the result of `hangs` as a word; an error, `"failing"`, is logged."""
        try:
            return "hanging" if await self.hangs() else "live"
        except Exception:
            logger.exception("a model does not compute")
            return "failing"

    def drain(self) -> None:
        """Stop being ready, but continue to answer."""
        self._draining = True

    def stop_accepting(self) -> None:
        """Refuse new requests; requests that have been admitted are still answered."""
        self._draining = self._closing = True

    async def close(self) -> None:
        """Close the models."""
        for model in self._models.values():
            await model.reranker.aclose()

    def authorize(self, request: Request) -> None:
        """Check a request's key and host, and set the key's name in the request's state.

        Raises:
            Unauthorized: The key is missing or unknown.
            WrongHost: There are no keys, and a web page may have sent the request.
        """
        check_host(request, self.settings)
        request.state.key_name = self._keys.name_of(request.headers.get("authorization"))

    async def rank(self, job: RankJob, request: Request) -> Ranking:
        """Answer a request; stop if the client closes its connection.

        Args:
            job: The query and the documents to rank.
            request: The HTTP request, whose body has been read.

        Returns:
            The ranking; its `model` is the served name of the model that answered.

        Raises:
            InputError: A text or a number cannot be used.
            RerankError: The model failed.
            Refused: UnknownModel, TooLarge, TooLong, TooManyRequests, DeadlineExceeded,
                ClientGone or Draining.
        """
        model = self.find(job.model)
        top_n, threshold = check_top_n(job.top_n), check_threshold(job.threshold)
        self.check_count(len(job.documents))
        # In a thread: checking ten megabytes would block the event loop.
        checked = await asyncio.to_thread(
            check_request,
            job.query,
            job.documents,
            long_documents=job.long_documents,
            max_document_tokens=job.max_document_tokens,
            instruction=job.instruction,
        )
        (ranking,) = await self._answer(model, [checked], request, top_n, threshold)
        return ranking

    async def score(self, job: ScoreJob, request: Request) -> list[Ranking]:
        """Answer several queries as one request: they share a place in the queue and batches.

        Args:
            job: The queries with their documents.
            request: As for `rank`.

        Returns:
            One ranking for each query, in the same order.

        Raises:
            InputError: As for `rank`.
            RerankError: As for `rank`.
            Refused: As for `rank`; the limits are those of one request.
        """
        model = self.find(job.model)
        self.check_count(sum(len(checked.documents) for checked in job.requests))
        return await self._answer(model, job.requests, request)

    async def _answer(
        self,
        model: ServedModel,
        checked: Sequence[ScoreRequest],
        request: Request,
        top_n: int | None = None,
        threshold: float | None = None,
    ) -> list[Ranking]:
        """Rank within the limits of queue and deadline, and update the metrics."""
        tokens = await asyncio.to_thread(self._measure, model, checked)
        documents = sum(len(one.documents) for one in checked)
        note = request.state
        note.model, note.documents, note.estimated_tokens = model.name, documents, tokens
        with (
            self.queue.place(tokens),
            self.idle.using(model.name),
            traced(model.name, documents, top_n) as ranked,
        ):
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self.settings.deadline):
                    work = self._rank_as_set(model, checked, top_n, threshold, request)
                    rankings = await _unless_gone(work, request)
            except TimeoutError:
                raise DeadlineExceeded(
                    f"it took longer than {self.settings.deadline:g} s; send fewer documents at a "
                    "time, or later",
                    retry_after=1.0,
                ) from None
            whole = _joined(rankings)
            ranked(whole)
        note.tokens = whole.usage.tokens
        if any(ranking.degraded is not None for ranking in rankings):
            note.degraded = True
            self.metrics.degraded(model.name)
        self.metrics.ranked(model.name, whole, time.perf_counter() - started)
        return [in_served_names(ranking, model) for ranking in rankings]

    async def _rank_as_set(
        self,
        model: ServedModel,
        checked: Sequence[ScoreRequest],
        top_n: int | None,
        threshold: float | None,
        request: Request,
    ) -> list[Ranking]:
        """Rank, without the instruction if the model takes none and the settings allow that."""
        try:
            return await _rank(model, checked, top_n, threshold)
        except NoInstructionError:
            # The scorer raises it before it computes, so no work is lost.
            if not self.settings.ignore_instruction:
                raise
        request.state.ignored = ["instruction"]
        bare = [dataclasses.replace(one, instruction=None) for one in checked]
        return await _rank(model, bare, top_n, threshold)

    def find(self, name: str | None) -> ServedModel:
        """Find the model that answers requests for a name; None is the default.

        Raises:
            Draining: The process is about to end.
            UnknownModel: No model answers them.
        """
        if self._closing:
            raise Draining("this process is about to end; send it again", retry_after=1.0)
        default = self._models[self.models[0]]
        found = default if name is None else self._models.get(name)
        if found is None and self.settings.any_model:
            return default
        if found is None:
            # Without the name, which may hold anything, since others log this message.
            raise UnknownModel(f"no such model here; there are: {', '.join(self.models)}")
        return found

    def max_tokens(self, model: ServedModel) -> int:
        """Return the maximum tokens of a pair: the model's, or the setting if it is not known."""
        facts = model.facts
        return self.settings.max_length if facts is None else facts.max_tokens

    def check_count(self, documents: int) -> None:
        """Check the number of a request's documents.

        Raises:
            TooLarge: There are too many.
        """
        if documents > self.settings.max_documents:
            raise TooLarge(
                f"documents: {documents:,} are more than {self.settings.max_documents:,}; "
                "send fewer at a time"
            )

    def _measure(self, model: ServedModel, checked: Sequence[ScoreRequest]) -> int:
        """Estimate the tokens of a request, and check their limit."""
        longest = self.max_tokens(model)
        tokens = sum(estimate_tokens(one, longest) for one in checked)
        if tokens > self.settings.max_request_tokens:
            raise TooLarge(
                f"the request has some {tokens:,} tokens, more than "
                f"{self.settings.max_request_tokens:,}; send fewer documents at a time"
            )
        return tokens


async def _rank(
    model: ServedModel,
    checked: Sequence[ScoreRequest],
    top_n: int | None,
    threshold: float | None,
) -> list[Ranking]:
    try:
        return await model.reranker.arank_requests(checked, top_n=top_n, threshold=threshold)
    except InputError as error:
        if _is_too_long(error):
            # Another service's name of the field may quote the request.
            which = "a text" if isinstance(error, ServiceError) else error.argument
            message = f"{which} is too long; split it, or allow truncation"
            raise TooLong(message) from None
        raise


def _is_too_long(error: InputError) -> bool:
    if isinstance(error, ServiceError):
        return error.code == TooLong.code
    # The texts have been checked, so the length is the only possible error.
    return error.argument.partition("[")[0] in {"query", "documents"}


def _joined(rankings: Sequence[Ranking]) -> Ranking:
    """Join the cost of one request's rankings, which share their timings."""
    first = rankings[0]
    if len(rankings) == 1:
        return first
    usages = [ranking.usage for ranking in rankings]
    usage = Usage(
        documents=sum(usage.documents for usage in usages),
        tokens=sum_if_known(usage.tokens for usage in usages),
        truncated_documents=sum_if_known(usage.truncated_documents for usage in usages),
    )
    return dataclasses.replace(first, hits=(), usage=usage)


async def _unless_gone(work: Coroutine[Any, Any, T], request: Request) -> T:
    """Return the result of the work; cancel it if the client closes its connection first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone("the client closed its connection")
        return working.result()
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
        await asyncio.wait({working, leaving})


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
