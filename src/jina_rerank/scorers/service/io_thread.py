"""One thread with one event loop that does all network I/O of this process.

Connections belong to the loop that opened them. With a loop of our own, one pool serves every
thread and every event loop of the caller, a sync call is the async one waited for, and what keeps
account of retries and of concurrency needs no locks.
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

T = TypeVar("T")

CLOSING_SECONDS = 0.5
"""Longest time for closing when the interpreter ends."""


class IoThread:
    """A daemon thread that runs an event loop until the interpreter goes.

    Attributes:
        loop: Its event loop.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._posted: set[asyncio.Task[object]] = set()
        self._thread = threading.Thread(target=self._run, name="jina-rerank-io", daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine there, in the caller's context; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def post(self, start: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine there and do not wait; if the thread is gone, do not run it."""
        if self is _thread and self._thread.is_alive():
            self.loop.call_soon_threadsafe(lambda: self._keep(self.loop.create_task(start())))

    def _keep(self, task: asyncio.Task[object]) -> None:
        # The loop itself only holds its tasks weakly.
        self._posted.add(task)
        task.add_done_callback(self._posted.discard)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        # What still runs must end here, or it would be destroyed half-way with a complaint.
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
    """A forked child has the parent's loop without its thread: it starts one of its own.

    The old one is kept, since closing it would reach into the parent's sockets.
    """
    global _thread, _lock  # noqa: PLW0603 - as above; the lock may have been held at the fork
    _lock = threading.Lock()
    if _thread is not None:
        _left_behind.append(_thread)
        _thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
