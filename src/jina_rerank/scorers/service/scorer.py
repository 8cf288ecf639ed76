"""`ServiceScorer`: a scorer that calls a service, over any transport."""

from __future__ import annotations

import asyncio
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from ..._numbers import check_count, check_seconds
from ...errors import ConfigurationError
from ..base import OnScored, ScoreRequest, ScoreResponse
from .io_thread import IoThread, io_thread
from .parts import Part, split
from .settings import Conduct, PartLimits

if TYPE_CHECKING:
    from .session import Session


class ServiceScorer(ABC):
    """Base of all scorers that call a service; usable from any thread and event loop.

    Args:
        model: The name to show.
        timeout: The deadline of a whole call, in seconds.
        connect_timeout: Longest wait for a connection, in seconds.
        read_timeout: Longest silence of the service, in seconds.
        max_retries: See `Conduct`.
        max_concurrency: See `Conduct`.
        max_documents: See `PartLimits`; so are the next two.
        max_bytes: The most bytes in one request.
        max_tokens: The most tokens in one request, estimated.
        allow_partial: See `Conduct`.

    Raises:
        ConfigurationError: A number is out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        timeout: float,
        connect_timeout: float,
        read_timeout: float,
        max_retries: int,
        max_concurrency: int,
        max_documents: int,
        max_bytes: int,
        max_tokens: int,
        allow_partial: bool,
    ) -> None:
        self._model = model
        self._limits = PartLimits(
            documents=check_count(max_documents, "max_documents"),
            size=check_count(max_bytes, "max_bytes"),
            tokens=check_count(max_tokens, "max_tokens"),
        )
        self._conduct = Conduct(
            timeout=check_seconds(timeout, "timeout"),
            max_retries=check_count(max_retries, "max_retries", least=0),
            max_concurrency=check_count(max_concurrency, "max_concurrency"),
            allow_partial=allow_partial,
        )
        self._connect_timeout = check_seconds(connect_timeout, "connect_timeout")
        self._read_timeout = check_seconds(read_timeout, "read_timeout")
        self._closed = False
        self._opened: _Opened | None = None

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._model

    @abstractmethod
    def _open_session(self) -> Session:
        """Open a new session; called on the I/O thread."""

    def warm_up(self) -> None:
        """Load what is needed to send requests; nothing is sent. Idempotent.

        Raises:
            ConfigurationError: The scorer is closed, or a package is missing.
            AuthenticationError: There is no key.
        """
        self._submit_warm_up().result()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        await asyncio.wrap_future(self._submit_warm_up())

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request; see `Scorer.score`.

        Raises:
            ServiceError: The service failed; the subclass tells how.
        """
        deadline = time.monotonic() + self._conduct.timeout
        parts = split(requests, self._limits)
        future = self._submit_score(requests, parts, deadline, on_scored)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C here must stop the work there
            raise

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops the work."""
        deadline = time.monotonic() + self._conduct.timeout
        parts = await asyncio.to_thread(split, requests, self._limits)
        return await asyncio.wrap_future(self._submit_score(requests, parts, deadline, on_scored))

    def close(self) -> None:
        """Close all connections. Idempotent."""
        closing = self._submit_close()
        if closing is not None:
            closing.result()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        closing = self._submit_close()
        if closing is not None:
            await asyncio.wrap_future(closing)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # Its settings never change, and a copy by way of __getstate__ would lose the key.
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _submit_warm_up(self) -> Future[None]:
        async def open_session() -> None:
            await self._session().open()

        self._check_open()
        return io_thread().submit(open_session())

    def _submit_score(
        self,
        requests: Sequence[ScoreRequest],
        parts: Sequence[Part],
        deadline: float,
        on_scored: OnScored | None,
    ) -> Future[list[ScoreResponse]]:
        async def score() -> list[ScoreResponse]:
            return await self._session().score(requests, parts, deadline, on_scored)

        self._check_open()
        return io_thread().submit(score())

    def _submit_close(self) -> Future[None] | None:
        self._closed = True
        if self._opened is None or self._opened.thread.is_stopping:
            return None  # when the interpreter ends, connections end with the process
        opened, self._opened = self._opened, None
        if opened.thread.is_the_parents:
            opened.leave_to_parent()
            return None
        return opened.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError(f"the scorer of {self._model} is closed; make a new one")

    def _session(self) -> Session:
        """Get the session of this process; called on the I/O thread, so it is opened once."""
        self._check_open()
        thread = io_thread()
        if self._opened is None or self._opened.thread is not thread:
            if self._opened is not None:
                self._opened.leave_to_parent()
            self._opened = _Opened(self, thread, self._open_session())
        return self._opened.session


class _Opened:
    """A session and its I/O thread; the session is closed when its scorer is garbage-collected."""

    def __init__(self, owner: ServiceScorer, thread: IoThread, session: Session) -> None:
        self.thread = thread
        self.session = session
        self._forgotten = weakref.finalize(owner, thread.post, session.aclose)
        self._forgotten.atexit = False

    def close(self) -> Future[None]:
        self._forgotten.detach()
        return self.thread.submit(self.session.aclose())

    def leave_to_parent(self) -> None:
        """Keep the session unclosed after a fork, since the sockets belong to the parent."""
        self._forgotten.detach()
        _left_to_parent.append(self)


_left_to_parent: list[_Opened] = []
