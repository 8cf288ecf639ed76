"""One thread per device that owns it: every model on that device runs there and nowhere else.

Torch keeps a pool of OpenMP threads for each thread that calls it, so models run from many
threads fight over the cores. One owner keeps one pool, gives every caller its turn, and leaves
event loops alone.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Generic, TypeVar

from ..errors import ScoringError

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work in steps: it yields where it may be stopped or may let others go first, and returns its
result."""

_workers: dict[str, Worker] = {}
_workers_lock = threading.Lock()
_owner_pid: int | None = None


def worker_for(device: str) -> Worker:
    """The worker of a device, started if it is not running yet."""
    with _workers_lock:
        if device not in _workers:
            _workers[device] = Worker(device)
        return _workers[device]


def claim_process() -> None:
    """Note that a model is used in this process, and refuse if it was forked from one like it.

    The worker thread and torch's threads stay behind in the parent: the call would never
    return.

    Raises:
        ScoringError: It was.
    """
    global _owner_pid  # noqa: PLW0603 - one process, one answer
    if _owner_pid not in {None, os.getpid()}:
        raise ScoringError(
            "this process was forked from one in which a model had already been loaded, and "
            "torch's threads do not survive that. Load the model only after the fork (gunicorn: "
            'without --preload), or start processes with multiprocessing.get_context("spawn")'
        )
    _owner_pid = os.getpid()


class Worker:
    """Runs jobs on a thread of its own, a step of each in turn.

    Args:
        name: For the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._arrived: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"jina-rerank-{name}", daemon=True)
        self._thread.start()
        # Before the interpreter goes: a thread inside torch then would abort the process.
        atexit.register(self._stop)

    def submit(self, steps: Callable[[], Steps[T]]) -> Future[T]:
        """Queue a job.

        Args:
            steps: Called on the worker's thread when the job starts.

        Returns:
            Its result to be. Cancelling it, waiting or running, stops the job before its next
            step and frees its place.
        """
        job = _TypedJob(steps)
        with self._wake:
            self._arrived.append(job)
            self._wake.notify()
        return job.future

    def _run(self) -> None:
        jobs: deque[_Job] = deque()
        while True:
            with self._wake:
                while not jobs and not self._arrived and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    return
                jobs.extend(self._arrived)
                self._arrived.clear()
            # A step of each in turn: five documents need not wait for another's 10,000.
            job = jobs.popleft()
            if job.step():
                jobs.append(job)

    def _stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()


class _Job:
    """What the worker sees of a job."""

    def step(self) -> bool:
        """Take one step; whether there are more."""
        raise NotImplementedError


class _TypedJob(_Job, Generic[T]):
    def __init__(self, steps: Callable[[], Steps[T]]) -> None:
        # Left pending until the end, so that it can be cancelled from anywhere while it runs.
        self.future: Future[T] = Future()
        self._start = steps
        self._steps: Steps[T] | None = None

    def step(self) -> bool:
        if self.future.cancelled():
            if self._steps is not None:
                self._steps.close()
            self.future.set_running_or_notify_cancel()
            return False
        try:
            if self._steps is None:
                self._steps = self._start()
            next(self._steps)
            return True
        except StopIteration as done:
            if self.future.set_running_or_notify_cancel():
                self.future.set_result(done.value)
        except BaseException as error:  # noqa: BLE001 - every kind goes to the one who waits
            if self.future.set_running_or_notify_cancel():
                self.future.set_exception(error)
        return False
