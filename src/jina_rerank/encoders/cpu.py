"""The forward pass on a CPU: sequences are shared out among threads that each compute alone.

Torch's own way is to divide every operation among its threads. At the sizes of a reranker that
means a thousand barriers a second, and as soon as another thread of the process has used torch
too, an embedding model's for instance, OpenMP counts more threads than cores and lets them sleep
at every barrier: the same work took 0.69 s instead of 0.52. Threads that share out the sequences
meet once a batch, and each keeps to its own core's cache.

What cannot be shared out, a long document or a lone one, is computed torch's way.
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
"""The length at which a token costs as much in attention as in all that does not depend on the
length. Measured at turbo's shape in bfloat16; only the balance depends on it."""


class CpuEngine:
    """A model on the CPU.

    Args:
        model: With one dtype. It is read and left whole; where there are fused kernels for its
            dtype, its layers are laid out anew and no longer referred to.
        int8: Whether the products of all layers but a last one for first tokens are computed in
            8-bit integers, from a model in float32: see `Int8Products`. The rest is computed in
            float32. `can_multiply_int8` must hold.
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
    """The fastest layers that compute in the model's dtype, or in 8 bits."""
    if int8:
        return FusedEncoder(model, products=Int8Products())
    return FusedEncoder(model) if can_fuse(next(model.parameters()).dtype) else model.encode


def share_out(lengths: Sequence[int], threads: int) -> list[list[int]]:
    """Divide sequences among threads.

    Args:
        lengths: Tokens in each sequence.
        threads: How many there are, no more than sequences.

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

    An executor would not do: it takes no more work when the interpreter ends, and a batch that is
    under way then is to end well. These threads are there until all atexit handlers have run.
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
        # What set_num_threads was last told, on any thread, is what new threads start with. Theirs
        # must not be 1; the threads that have started keep what they have.
        _on_a_new_thread(lambda: torch.set_num_threads(default))

    def map(self, compute: Callable[[S], T], shares: Sequence[S]) -> list[T]:
        """The result of each share, or the first error, once all are done with."""
        futures = [self._submit(compute, share) for share in shares]
        wait(futures)
        return [future.result() for future in futures]

    def _submit(self, compute: Callable[[S], T], share: S) -> Future[T]:
        future: Future[T] = Future()

        def task() -> None:
            try:
                future.set_result(compute(share))
            except BaseException as error:  # noqa: BLE001 - every kind goes to the one who waits
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
    """The process's threads on each of which torch computes alone."""
    # Two at a time would each take the other's 1 for what new threads start with.
    with _team_lock:
        return _new_team(threads)


@cache
def _new_team(threads: int) -> _Team:
    return _Team(threads)
