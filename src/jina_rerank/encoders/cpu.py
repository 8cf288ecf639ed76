"""The forward pass on a CPU: sequences are divided among threads that each compute alone.

Torch's own way is to divide every operation among its threads. At the sizes of a reranker that
means a thousand barriers a second, and as soon as another thread of the process has used torch
too, an embedding model's for instance, OpenMP counts more threads than cores and lets them sleep
at every barrier: the same work took 0.69 s instead of 0.52. Threads that divide the sequences wait
for each other only once a batch, and each uses its own core's cache.

Long sequences, and batches with too few short ones for all threads, are computed in torch's way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import cache
from itertools import accumulate, groupby
from queue import SimpleQueue
from typing import TypeVar

import torch
from torch import Tensor

from .fused import FusedEncoder
from .int8 import Int8Products
from .model import Encode, EncoderModel
from .products import can_fuse
from .sequences import Sequences

S = TypeVar("S")
T = TypeVar("T")

SHARE_TOKENS = 2048
"""Tokens that a thread takes at a time: fewer make small matrices, more leave threads idle at the
end of a batch."""

SHARED_BELOW = 1024
"""Sequences from this length on are computed by all threads together."""

EQUAL_WORK = 300
"""The length at which a token costs as much in attention as in all parts that do not depend on the
length. Measured at turbo's shape in bfloat16; only the balance between threads depends on it."""


class CpuEngine:
    """A model on the CPU.

    Args:
        model: The model, with one dtype. It is not changed. Where there are fused kernels for its
            dtype, its layers are copied into their layout and no longer referred to.
        int8: Whether the products of the layers are computed in 8-bit integers, from a model in
            float32: see `Int8Products`. The rest is computed in float32, and so is a last layer
            that is computed for first tokens only. `can_multiply_int8` must be true.
    """

    def __init__(self, model: EncoderModel, *, int8: bool = False) -> None:
        self._embeddings = model.bert.embeddings
        self._head = model.head_alone()
        self._encode = _layers(model, int8=int8)
        self._threads = torch.get_num_threads()

    @property
    def batch_tokens(self) -> int:
        """The number of tokens that keep all threads busy."""
        return 2 * SHARE_TOKENS * self._threads

    def __call__(
        self, input_ids: Tensor, lengths: Sequence[int], token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Compute logits of sequences one after another; see `PackedForward.forward_packed`.

        Args:
            input_ids: Shape (tokens,), integers.
            lengths: Tokens in each sequence.
            token_type_ids: Shape (tokens,); None for all zero.

        Returns:
            Shape (sequences,), float32.
        """
        together = [i for i, length in enumerate(lengths) if length >= SHARED_BELOW]
        shared = [i for i, length in enumerate(lengths) if length < SHARED_BELOW]
        if self._threads == 1 or len(shared) < self._threads:
            return self._alone(input_ids, lengths, token_type_ids)
        ids = torch.split(input_ids, list(lengths))
        types = None if token_type_ids is None else torch.split(token_type_ids, list(lengths))

        def compute(positions: Sequence[int]) -> Tensor:
            with torch.inference_mode():
                return self._alone(
                    torch.cat([ids[i] for i in positions]),
                    [lengths[i] for i in positions],
                    None if types is None else torch.cat([types[i] for i in positions]),
                )

        logits = torch.empty(len(lengths))
        shares = share_out([lengths[i] for i in shared], self._threads)
        own = [[shared[i] for i in positions] for positions in shares]
        for positions, part in zip(own, team(self._threads).map(compute, own), strict=True):
            logits[positions] = part
        if together:
            logits[together] = compute(together)
        return logits

    def _alone(
        self, input_ids: Tensor, lengths: Sequence[int], token_type_ids: Tensor | None
    ) -> Tensor:
        """Compute sequences on this thread."""
        sequences = Sequences(lengths, input_ids.device)
        hidden = self._embeddings(input_ids, token_type_ids, sequences)
        return self._head(self._encode(hidden, sequences))


def _layers(model: EncoderModel, *, int8: bool) -> Encode:
    """Choose the fastest layers that compute in the model's dtype, or in 8 bits."""
    if int8:
        return FusedEncoder(model, products=Int8Products())
    return FusedEncoder(model) if can_fuse(next(model.parameters()).dtype) else model.encode


def share_out(lengths: Sequence[int], threads: int) -> list[list[int]]:
    """Divide sequences among threads.

    Args:
        lengths: Tokens in each sequence.
        threads: Number of threads, at most the number of sequences.

    Returns:
        Positions in `lengths`, each exactly once, in order, in groups of about equal work: as
        many as there are threads, or a multiple, so that a group has about `SHARE_TOKENS`.
    """
    rounds = max(1, round(sum(lengths) / (SHARE_TOKENS * threads)))
    parts = min(len(lengths), rounds * threads)
    work = [length * (1 + length / EQUAL_WORK) for length in lengths]
    # A sequence belongs to the part in which the middle of its work falls.
    middles = [end - own / 2 for own, end in zip(work, accumulate(work), strict=True)]
    part_of = [int(middle * parts / sum(work)) for middle in middles]
    return [list(group) for _, group in groupby(range(len(lengths)), key=part_of.__getitem__)]


class _Team:
    """Threads on each of which torch computes alone.

    An executor would take no more work when the interpreter ends, but a batch in progress must
    still be completed then. These threads run until all atexit handlers have run.
    """

    def __init__(self, threads: int) -> None:
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        default = _on_a_new_thread(torch.get_num_threads)
        all_there = threading.Barrier(threads + 1)
        for _ in range(threads):
            threading.Thread(
                target=self._work, args=(all_there,), name="jina-rerank-share", daemon=True
            ).start()
        all_there.wait()
        # New threads start with the number that set_num_threads last set, on any thread. It must
        # not stay 1; threads that have started keep their own number.
        _on_a_new_thread(lambda: torch.set_num_threads(default))

    def map(self, compute: Callable[[S], T], shares: Sequence[S]) -> list[T]:
        """Compute all shares; return the results or raise the first error, once all have ended."""
        futures = [self._submit(compute, share) for share in shares]
        wait(futures)
        return [future.result() for future in futures]

    def _submit(self, compute: Callable[[S], T], share: S) -> Future[T]:
        future: Future[T] = Future()

        def task() -> None:
            try:
                future.set_result(compute(share))
            except BaseException as error:  # noqa: BLE001 - passed on to the waiting caller
                future.set_exception(error)

        self._tasks.put(task)
        return future

    def _work(self, all_there: threading.Barrier) -> None:
        torch.set_num_threads(1)
        all_there.wait()
        while True:
            self._tasks.get()()


def _on_a_new_thread(run: Callable[[], T]) -> T:
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    return results[0]


_team_lock = threading.Lock()


def team(threads: int) -> _Team:
    """Get the process's threads on each of which torch computes alone."""
    # Two teams made at the same time would take each other's 1 for the default of new threads.
    with _team_lock:
        return _new_team(threads)


@cache
def _new_team(threads: int) -> _Team:
    return _Team(threads)
