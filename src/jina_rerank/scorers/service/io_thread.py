"""One thread with one event loop that does all network I/O of this process.

Connections belong to the loop that opened them. With a separate loop, one pool serves every thread
and every event loop of the caller, a sync call waits for the async one, and the counts of retries
and of concurrency need no locks.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from ...errors import ScoringError

T = TypeVar("T")

CLOSING_SECONDS = 0.5
"""Longest time for closing when the interpreter ends."""


class IoThread:
    """A daemon thread that runs an event loop until the interpreter ends.

    Attributes:
        loop: Its event loop.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._posted: set[asyncio.Task[object]] = set()
        self._is_stopping = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="jina-rerank-io", daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    @property
    def is_the_parents(self) -> bool:
        """Tell whether this is a forked child, in which the thread does not run."""
        return self is not _thread

    @property
    def is_stopping(self) -> bool:
        """Tell whether the interpreter is ending, so that nothing is run any more."""
        return self._is_stopping

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the thread; cancelling the future cancels the coroutine.

        The coroutine runs in the caller's context.

        Raises:
            ScoringError: The interpreter is ending.
        """
        # Locked, so that the loop gets every coroutine before it is stopped, and cancels it then.
        with self._lock:
            if not self._is_stopping:
                return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        coroutine.close()
        raise ScoringError.at_exit()

    def post(self, start: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine on the thread without waiting for it; not if the thread has ended."""
        if self is _thread and self._thread.is_alive():
            self.loop.call_soon_threadsafe(lambda: self._keep(self.loop.create_task(start())))

    def _keep(self, task: asyncio.Task[object]) -> None:
        # The loop itself only holds its tasks weakly.
        self._posted.add(task)
        task.add_done_callback(self._posted.discard)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        # Tasks that still run must end here, or asyncio would destroy them with a warning.
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        # Posted tasks close connections; if they were cancelled, sockets would stay open.
        closing = set(self._posted)
        tasks = asyncio.all_tasks(self.loop) - {asyncio.current_task(), *closing}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if closing:
            _, late = await asyncio.wait(closing, timeout=CLOSING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)

    def _stop(self) -> None:
        if self._thread.is_alive():  # not in a forked child
            with self._lock:
                self._is_stopping = True
                self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(timeout=1.0)


_thread: IoThread | None = None
_lock = threading.Lock()
_left_behind: list[IoThread] = []


def io_thread() -> IoThread:
    """The thread of this process, started if there is none yet."""
    global _thread  # noqa: PLW0603 - one process, one thread
    with _lock:
        if _thread is None:
            _thread = IoThread()
        return _thread


def _forget_after_fork() -> None:
    """Forget the thread in a forked child, which has the parent's loop without its thread.

    The child starts a new thread when it needs one. The old loop is kept, since closing it would
    affect the parent's sockets.
    """
    global _thread, _lock  # noqa: PLW0603 - as above; the lock may have been held at the fork
    _lock = threading.Lock()
    if _thread is not None:
        _left_behind.append(_thread)
        _thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
