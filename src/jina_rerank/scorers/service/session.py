"""`Session`: a scorer's connections, pace and retry budget, on the I/O thread."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from ...errors import (
    AuthenticationError,
    ConfigurationError,
    InsufficientBalanceError,
    RejectedSettingError,
    RequestTimeoutError,
    ResponseError,
    ServiceError,
)
from ..base import OnScored, Progress, ScoreRequest, ScoreResponse
from .dialects import ContractError, Dialect, Parameters, read_json
from .failures import find_request_id, read_failure
from .pace import Pace
from .parts import Part, PartScores, merge
from .retries import budget_for, with_retries
from .settings import Conduct
from .wire import Reply, Transport

_NEVER_PARTIAL = (AuthenticationError, InsufficientBalanceError, RejectedSettingError)


class _TooLargeError(Exception):
    """The service refused a part as too large, and the part has more than one document."""


class Session:
    """Client of one service, over one transport.

    Args:
        service: The service's address, for messages and for the shared retry budget.
        transport: Sends the requests; closed with the session.
        dialect: The format of requests and answers.
        parameters: Parameters of each request.
        conduct: Limits of each call.
    """

    def __init__(
        self,
        service: str,
        transport: Transport,
        *,
        dialect: Dialect,
        parameters: Parameters,
        conduct: Conduct,
    ) -> None:
        self._service = service
        self._transport = transport
        self._dialect = dialect
        self._parameters = parameters
        self._conduct = conduct
        self._pace = Pace(conduct.max_concurrency)
        self._budget = budget_for(service)
        self._closed = False

    async def open(self) -> None:
        """Do the preparations that take time; nothing is sent."""
        await self._transport.open()

    async def aclose(self) -> None:
        """Close all connections; calls in progress fail."""
        self._closed = True
        await self._transport.aclose()

    async def score(
        self,
        requests: Sequence[ScoreRequest],
        parts: Sequence[Part],
        deadline: float,
        on_scored: OnScored | None,
    ) -> list[ScoreResponse]:
        """Score all parts by the deadline (in `time.monotonic`'s seconds) and merge them.

        Raises:
            InputError: The service does not have an option of a request; nothing was sent.
        """
        parameters = [
            self._dialect.parameters_for(request, self._parameters) for request in requests
        ]
        call = _Call(
            partial(self._score_part, requests, parameters),
            parts,
            deadline,
            on_scored,
            report=self._conduct.allow_partial,
        )
        # No more parts at a time than can be in flight: a call of a thousand parts that queued all
        # of them would keep a call of one part waiting.
        await call.run(self._conduct.max_concurrency)
        return merge(requests, call.answers, [(p, str(error)) for p, error in call.failures])

    async def _score_part(
        self,
        requests: Sequence[ScoreRequest],
        parameters: Sequence[Parameters],
        part: Part,
        deadline: float,
    ) -> PartScores:
        """Score a part; `parameters` has one entry for each request of the call."""
        is_split = len(part.documents) < len(requests[part.request].documents)
        body = self._dialect.body(part.query, part.documents, parameters[part.request])
        encoded = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        failed: list[ServiceError] = []

        async def attempt() -> PartScores:
            try:
                async with self._pace.slot():
                    return self._read(await self._send(encoded), part, is_split=is_split)
            except ServiceError as error:
                failed.append(error)
                raise

        try:
            async with asyncio.timeout_at(deadline):
                return await with_retries(
                    attempt,
                    max_retries=self._conduct.max_retries,
                    deadline=deadline,
                    budget=self._budget,
                )
        except TimeoutError:
            pass
        # Raised outside of the handler, as in http.py, so no traceback with headers is attached.
        before = f"; before that, {failed[-1]}" if failed else ""
        raise RequestTimeoutError(
            f"{self._service} did not answer within timeout={self._conduct.timeout:g} s{before}"
        )

    async def _send(self, body: bytes) -> Reply:
        if not self._closed:
            try:
                return await self._transport.send(body)
            except RuntimeError:  # as HTTP libraries have it for a client that was closed
                if not self._closed:
                    raise
        raise ConfigurationError(f"the scorer was closed while {self._service} was asked")

    def _read(self, reply: Reply, part: Part, *, is_split: bool) -> PartScores:
        if 200 <= reply.status < 300:
            try:
                return self._dialect.read(read_json(reply.body), len(part.documents))
            except ContractError as error:
                raise ResponseError(
                    f"{self._service} gave an answer that cannot be used: {error}",
                    reply.status,
                    request_id=find_request_id(reply),
                ) from None
        too_large = self._dialect.is_too_large(reply) and len(part.documents) > 1
        # A 504 may also be an outage, in which splitting would multiply the requests.
        if too_large and (reply.status != 504 or self._budget.spend()):
            raise _TooLargeError
        raise read_failure(reply, self._service, part if is_split else None)


class _Call:
    """The parts of one call: waiting, answered and failed.

    Args:
        score_part: Scores one part.
        parts: The parts of the call.
        deadline: Deadline of the whole call.
        on_scored: Called with the progress of the call in estimated tokens: a service counts
            tokens only afterwards, if it does.
        report: Whether to go on after the failure of a part.
    """

    def __init__(
        self,
        score_part: Callable[[Part, float], Awaitable[PartScores]],
        parts: Sequence[Part],
        deadline: float,
        on_scored: OnScored | None,
        *,
        report: bool,
    ) -> None:
        self.answers: list[tuple[Part, PartScores]] = []
        self.failures: list[tuple[Part, ServiceError]] = []
        self._score_part = score_part
        self._waiting = deque(parts)
        self._deadline = deadline
        self._on_scored = on_scored
        self._report = report
        self._remaining = 0.0 if on_scored is None else sum(part.tokens for part in parts)
        self._scored = 0.0

    async def run(self, workers: int) -> None:
        """Score all parts, `workers` at a time."""
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(self._waiting), workers)):
                    group.create_task(self._work(group))
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
        if failure is not None:
            raise failure
        if self.failures and not self.answers:
            raise self.failures[0][1]

    async def _work(self, group: asyncio.TaskGroup) -> None:
        while self._waiting:
            part = self._waiting.popleft()
            try:
                answer = await self._score_part(part, self._deadline)
            except _TooLargeError:
                self._waiting.extendleft(reversed(part.halves()))
                group.create_task(self._work(group))
            except ServiceError as error:
                if not self._report or isinstance(error, _NEVER_PARTIAL):
                    raise
                self.failures.append((part, error))
                self._count(part, scored=False)
            else:
                self.answers.append((part, answer))
                self._count(part, scored=True)

    def _count(self, part: Part, *, scored: bool) -> None:
        if self._on_scored is not None:
            self._remaining -= part.tokens
            self._scored += part.tokens if scored else 0
            self._on_scored(Progress(round(self._scored), round(self._remaining)))
