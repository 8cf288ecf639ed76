"""One thread per device that owns it: every model on that device runs there and nowhere else.

Torch keeps a pool of OpenMP threads for each thread that calls it, so models run from many
threads fight over the cores. One owner keeps one pool, gives every caller its turn, and leaves
event loops alone.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from ..errors import ScoringError
from ._pair_model import Computed, PairModel, Wanted

T = TypeVar("T")

Steps = Generator[Wanted, Computed, T]
"""Work in steps, each of which yields the pairs whose logits it needs to go on. It may be closed at
each, and returns its result."""

_workers: dict[str, Worker] = {}
_workers_lock = threading.Lock()
_owner_pid: int | None = None


def worker_for(device: str) -> Worker:
    """The worker of a device, started if it is not running yet."""
    with _workers_lock:
        if device not in _workers:
            _workers[device] = Worker(device)
        return _workers[device]


def batches_computed() -> int:
    """The number of batches that all workers of this process have computed."""
    with _workers_lock:
        return sum(worker.batches for worker in _workers.values())


def claim_process() -> None:
    """Note that a model is used in this process, and refuse if it was forked from one like it.

    The worker thread and the libraries' threads stay behind in the parent: the call would never
    return.

    Raises:
        ScoringError: It was.
    """
    global _owner_pid  # noqa: PLW0603 - one process, one answer
    if _owner_pid not in {None, os.getpid()}:
        raise ScoringError(
            "this process was forked from one in which a model had already been loaded, and "
            "its threads do not survive that. Load the model only after the fork (gunicorn: "
            'without --preload), or start processes with multiprocessing.get_context("spawn")'
        )
    _owner_pid = os.getpid()


class Worker:
    """Runs jobs on a thread of its own, a batch of each in turn, small batches of several at once.

    Args:
        name: For the thread's name.

    Attributes:
        batches: How many it has computed: one that waits and sees no more of them hangs.
    """

    def __init__(self, name: str) -> None:
        self._arrived: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self.batches = 0
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

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Queue work that is one step, for models that do not score pairs.

        Args:
            work: Called on the worker's thread. Others wait until it is done, so it is a batch.

        Returns:
            Its result to be; cancelling it before it starts frees its place.
        """

        def steps() -> Steps[T]:
            return work()
            yield  # a generator, without a step that wants logits

        return self.submit(steps)

    def _run(self) -> None:
        jobs: list[_Job] = []
        while True:
            with self._wake:
                while not jobs and not self._arrived and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    break
                arrived = list(self._arrived)
                self._arrived.clear()
            for job in arrived:
                job.step()
            jobs = [job for job in [*jobs, *arrived] if not job.drop_if_cancelled()]
            served = _next_batch(jobs)
            _compute(served)
            self.batches += len(served) > 0
            # Those who were served go to the end: five documents need not wait for 10,000.
            jobs = [job for job in jobs if job not in served] + served
            jobs = [job for job in jobs if not job.ended]
        for job in jobs:  # they may have threads of their own
            job.close()

    def _stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()


def _next_batch(jobs: Sequence[_Job]) -> list[_Job]:
    """The first job that waits for logits, and those after it until the batch is full.

    The last one may fill it beyond: small batches one token too large would go half empty.
    """
    batch: list[_Job] = []
    model: PairModel | None = None
    room = 0
    for job in jobs:
        wanted = job.wanted
        if wanted is None:
            continue
        if model is None:
            model, room = wanted.model, wanted.model.batch_tokens
        elif wanted.model is not model or room <= 0:
            continue
        room -= wanted.tokens
        batch.append(job)
    return batch


def _compute(jobs: Sequence[_Job]) -> None:
    """Give each job its logits, all computed together."""
    wanted = [job.wanted for job in jobs if job.wanted is not None]
    if not wanted:
        return
    pairs = [pair for own in wanted for pair in own.pairs]
    # Neighbours of equal length are what the model is fastest with.
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i]))
    try:
        started = time.perf_counter()
        found = wanted[0].model.logits([pairs[i] for i in order])
        seconds = time.perf_counter() - started
        logits = dict(zip(order, found, strict=True))
    except BaseException as error:  # noqa: BLE001 - every kind goes to the one who waits
        if len(jobs) == 1:
            jobs[0].fail(error)
            return
        for job in jobs:  # one of them may be the cause; the others are not to suffer
            _compute([job])
        return
    start = 0
    for job, own in zip(jobs, wanted, strict=True):
        own_logits = [logits[i] for i in range(start, start + len(own.pairs))]
        job.step(Computed(own_logits, seconds))
        start += len(own.pairs)


class _Job:
    """A job, as the worker sees it.

    Attributes:
        wanted: The pairs it waits for; None before it starts and when it has ended.
        ended: Whether there is nothing left to do for it.
    """

    wanted: Wanted | None = None
    ended = False

    def step(self, computed: Computed | None = None) -> None:
        """Go on to the next step, with what the last one wanted."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Go on with an error instead."""
        raise NotImplementedError

    def drop_if_cancelled(self) -> bool:
        """End the job if nobody waits for it any more; whether it has ended."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the job where it is."""
        raise NotImplementedError


class _TypedJob(_Job, Generic[T]):
    def __init__(self, steps: Callable[[], Steps[T]]) -> None:
        # Left pending until the end, so that it can be cancelled from anywhere while it runs.
        self.future: Future[T] = Future()
        self._start = steps
        self._steps: Steps[T] | None = None

    def step(self, computed: Computed | None = None) -> None:
        def go_on() -> Wanted:
            if self._steps is None:
                self._steps = self._start()
            return next(self._steps) if computed is None else self._steps.send(computed)

        self._advance(go_on)

    def fail(self, error: BaseException) -> None:
        steps = self._steps
        assert steps is not None
        self._advance(lambda: steps.throw(error))

    def drop_if_cancelled(self) -> bool:
        if not self.ended and self.future.cancelled():
            self.close()
            self.future.set_running_or_notify_cancel()
            self.ended = True
        return self.ended

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()

    def _advance(self, go_on: Callable[[], Wanted]) -> None:
        if self.drop_if_cancelled():
            return
        self.wanted = None
        try:
            self.wanted = go_on()
        except StopIteration as done:
            self.ended = True
            if self.future.set_running_or_notify_cancel():
                self.future.set_result(done.value)
        except BaseException as error:  # noqa: BLE001 - every kind goes to the one who waits
            self.ended = True
            if self.future.set_running_or_notify_cancel():
                self.future.set_exception(error)
