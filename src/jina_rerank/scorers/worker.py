"""One owner thread per device: every model on that device runs there and nowhere else.

Torch keeps a pool of OpenMP threads for each thread that calls it, so models that run on many
threads compete for the cores. One owner thread has one pool, serves the callers in turn, and does
not block event loops.
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
"""Work in steps. Each step yields the pairs whose logits the next step needs; the last one returns
the result. The generator may be closed after any step."""

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
    """Note that this process uses a model, and refuse if its parent did so before the fork.

    The worker thread and the libraries' threads stay behind in the parent: the call would never
    return.

    Raises:
        ScoringError: The process was forked from one that had used a model.
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
    """A thread that runs jobs, one batch of each in turn, with small batches of several joined.

    Args:
        name: The device's name, which is part of the thread's name.

    Attributes:
        batches: Number of batches it has computed. The worker hangs if jobs wait and this number
            no longer grows.
    """

    def __init__(self, name: str) -> None:
        self._arrived: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self.batches = 0
        self._thread = threading.Thread(target=self._run, name=f"jina-rerank-{name}", daemon=True)
        self._thread.start()
        # A thread that is inside torch when the interpreter ends would abort the process.
        atexit.register(self._stop)

    def submit(self, steps: Callable[[], Steps[T]]) -> Future[T]:
        """Queue a job.

        Args:
            steps: Called on the worker's thread when the job starts.

        Returns:
            The future of its result. Cancelling it, whether the job waits or runs, stops the job
            before its next step and frees its place.

        Raises:
            ScoringError: The interpreter is ending.
        """
        job = _TypedJob(steps)
        with self._wake:
            if self._stopping:
                raise ScoringError.at_exit()
            self._arrived.append(job)
            self._wake.notify()
        return job.future

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Queue work of a single step, for models that do not score pairs.

        Args:
            work: Called on the worker's thread. Other jobs wait until it is done, so it should be
                one batch.

        Returns:
            The future of its result; cancelling it before it starts frees its place.

        Raises:
            ScoringError: The interpreter is ending.
        """

        def steps() -> Steps[T]:
            return work()
            yield  # makes this a generator, without a step that needs logits

        return self.submit(steps)

    def _run(self) -> None:
        jobs: list[_Job] = []
        while True:
            with self._wake:
                while not jobs and not self._arrived and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    break
                arrived = len(self._arrived)
            jobs = self._turn(jobs, [self._arrived.popleft() for _ in range(arrived)])
        # They may have threads of their own. Their futures are not cancelled: only daemon threads
        # can wait for them now, and each would print a traceback.
        for job in jobs:
            job.close()

    def _turn(self, jobs: Sequence[_Job], arrived: Sequence[_Job]) -> list[_Job]:
        """Compute one batch, and return the jobs that go on.

        A method of its own: a thread that waits must not have the last job among its locals, whose
        model would stay in memory until the next one comes.
        """
        for job in arrived:
            job.step()
        jobs = [job for job in [*jobs, *arrived] if not job.drop_if_cancelled()]
        served = _next_batch(jobs)
        _compute(served)
        self.batches += len(served) > 0
        # Served jobs go to the end, so that five documents need not wait for 10,000.
        jobs = [job for job in jobs if job not in served] + served
        return [job for job in jobs if not job.ended]

    def _stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()


def _next_batch(jobs: Sequence[_Job]) -> list[_Job]:
    """Choose the first job that waits for logits, and further jobs until the batch is full.

    The last job may exceed the limit: otherwise small batches that are one token too large would
    be computed half empty.
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
    """Compute the logits of several jobs together, and continue each job with its own."""
    wanted = [job.wanted for job in jobs if job.wanted is not None]
    if not wanted:
        return
    pairs = [pair for own in wanted for pair in own.pairs]
    # The model is fastest where neighbours have equal length.
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i]))
    try:
        started = time.perf_counter()
        found = wanted[0].model.logits([pairs[i] for i in order])
        seconds = time.perf_counter() - started
        logits = dict(zip(order, found, strict=True))
    except BaseException as error:  # noqa: BLE001 - passed on to the waiting caller
        if len(jobs) == 1:
            jobs[0].fail(error)
            return
        for job in jobs:  # one of them may be the cause; the others must not fail with it
            _compute([job])
        return
    start = 0
    for job, own in zip(jobs, wanted, strict=True):
        own_logits = [logits[i] for i in range(start, start + len(own.pairs))]
        job.step(Computed(own_logits, seconds))
        start += len(own.pairs)


class _Job:
    """Interface of a job for the worker.

    Attributes:
        wanted: The pairs whose logits it waits for; None before it starts and when it has ended.
        ended: Whether the job is complete, has failed, or was cancelled.
    """

    wanted: Wanted | None = None
    ended = False

    def step(self, computed: Computed | None = None) -> None:
        """Run the next step with the result of the last one; None for the first step."""
        raise NotImplementedError

    def fail(self, error: BaseException) -> None:
        """Run the next step with an error in place of a result."""
        raise NotImplementedError

    def drop_if_cancelled(self) -> bool:
        """End the job if its future was cancelled; return whether the job has ended."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the job at its current step."""
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
        except BaseException as error:  # noqa: BLE001 - passed on to the waiting caller
            self.ended = True
            if self.future.set_running_or_notify_cancel():
                self.future.set_exception(error)
