"""Base of all scorers that run a model in this process: load once, run on the owner thread."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from os import PathLike, fspath
from pathlib import Path
from typing import Any, get_args
from weakref import WeakValueDictionary

from .._numbers import as_whole, shown
from ..errors import ConfigurationError
from ._pair_model import PairModel
from ._pairs import score_in_steps
from .base import LongDocuments, OnScored, ScoreRequest, ScoreResponse
from .device import Dtype, check_device, check_dtype
from .weights import Weights, find_weights
from .worker import claim_process, worker_for

LEAST_MAX_LENGTH = 16
"""Tokens that the longest pair must have room for: some of the query and some of the document."""


class InProcessScorer(ABC):
    """A scorer whose model lives in this process, shared with all scorers of the same key.

    Args:
        model: The name to show.
        source: Where it is: a folder, a hub id, or None for the embedded model.
        revision: A branch, tag or commit on the hub.
        dtype: What to compute in.
        device: Where.
        max_length: Longest pair in tokens; the model's own limit applies if it is lower.
        long_documents: What to do with longer ones.

    Raises:
        ConfigurationError: A setting is out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        source: str | PathLike[str] | None,
        revision: str | None,
        dtype: Dtype,
        device: str,
        max_length: int,
        long_documents: LongDocuments,
    ) -> None:
        longest = as_whole(max_length)
        if longest is None or longest < LEAST_MAX_LENGTH:
            raise ConfigurationError(
                f"max_length must be a number from {LEAST_MAX_LENGTH}, not {shown(max_length)}"
            )
        if long_documents not in get_args(LongDocuments):
            raise ConfigurationError(
                f"long_documents must be one of {get_args(LongDocuments)}, not {long_documents!r}"
            )
        if revision is not None and not revision.strip():
            raise ConfigurationError("revision is blank; name a branch, a tag or a commit")
        self._model = model
        self._source = source
        self._revision = revision
        self._dtype = check_dtype(dtype)
        self._device = check_device(device)
        self._max_length = longest
        self._long_documents = long_documents
        self._closed = False
        self._slot: _Slot | None = None
        self._weights: Weights = None

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._model

    @property
    def fingerprint(self) -> str:
        """Everything that its scores depend on: see `CacheableScorer`.

        The package's version, which model, and the settings as given. A folder is told by where
        it is and by the sizes and times of its files, so a model that is trained anew in the same
        place is another one; a hub id by its commit in the cache. A model in memory is the one
        that was loaded, whatever was written over it since.

        `"auto"` as dtype or device stands for what this machine has: name them where machines of
        different kinds share a cache. Libraries' versions are not in it; they move the last
        digits.
        """
        from .. import __version__

        weights = self._weights if self._slot is not None else None
        return json.dumps(
            {
                "jina_rerank": __version__,
                "scorer": type(self).__name__,
                "model": self._model,
                "weights": weights or find_weights(self._source, self._revision),
                "revision": self._revision,
                "dtype": self._dtype,
                "device": self._device.partition(":")[0],
                "max_length": self._max_length,
                "long_documents": self._long_documents,
            }
        )

    @property
    def listwise(self) -> bool:
        """False: each document is read by itself."""
        return False

    @abstractmethod
    def _key(self) -> Hashable:
        """The key that tells this scorer's model from all others in the process."""

    def _source_key(self) -> Hashable:
        """The key that tells this scorer's source from all others, whatever name is shown.

        A string is a hub id where there is no such folder; a path is always a folder.
        """
        if self._source is None:
            return None
        folder = Path(self._source).expanduser()
        if folder.is_dir() or not isinstance(self._source, str):
            return ("folder", os.path.realpath(folder), self._revision)
        return ("hub", fspath(self._source), self._revision)

    def check_installed(self) -> None:  # noqa: B027 - most need packages, and none has to
        """Say now, and not at the first call, if a package is missing; none is imported.

        Raises:
            ConfigurationError: One that loading needs is not installed.
        """

    @abstractmethod
    def _load(self) -> PairModel:
        """Load the model; on a thread of its own, never twice at a time for one key."""

    def warm_up(self) -> None:
        """Load the model now. Idempotent.

        Raises:
            ModelLoadError: It cannot be loaded.
            ConfigurationError: The scorer is closed, or an extra is missing.
        """
        self._loading().result()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        await _wait(self._loading())

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request; see `Scorer.score`."""
        future = self._submit(self._loading().result(), requests, on_scored)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C here must stop the work there
            raise

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops the work."""
        model = await _wait(self._loading())
        return await asyncio.wrap_future(self._submit(model, requests, on_scored))

    async def abeginnings(self, texts: Sequence[str], tokens: int) -> list[str]:
        """The beginnings that texts' first tokens stand for, without blocking the event loop.

        Args:
            texts: Any.
            tokens: How many, at least 1, without special tokens.
        """
        model = await _wait(self._loading())
        return await asyncio.to_thread(model.tokenizer.beginnings, texts, tokens)

    def close(self) -> None:
        """Let go of the model; the last scorer to do so frees it. Idempotent."""
        self._closed = True
        self._slot = None

    async def aclose(self) -> None:
        """`close`; it never blocks."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_slot": None}

    def _loading(self) -> Future[PairModel]:
        if self._closed:
            raise ConfigurationError(f"the scorer of {self._model} is closed; make a new one")
        claim_process()
        slot = self._slot
        if slot is None:
            with _slots_lock:
                slot = self._slot = _slots.setdefault(self._key(), _Slot())
        return slot.loading(self._load)

    def _submit(
        self, model: PairModel, requests: Sequence[ScoreRequest], on_scored: OnScored | None
    ) -> Future[list[ScoreResponse]]:
        self._weights = model.weights
        submitted = time.perf_counter()
        return worker_for(model.device).submit(
            lambda: score_in_steps(
                model,
                requests,
                self._max_length,
                self._long_documents,
                on_scored,
                submitted=submitted,
            )
        )


class _Slot:
    """A model that is loaded once, however many ask at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._future: Future[PairModel] | None = None

    def loading(self, load: Callable[[], PairModel]) -> Future[PairModel]:
        with self._lock:
            failed = self._future is not None and self._future.done() and self._future.exception()
            # A failure is told to all who waited for it; the next call tries again.
            if self._future is None or failed:
                self._future = Future()
                threading.Thread(
                    target=_fill, args=(self._future, load), name="jina-rerank-load", daemon=True
                ).start()
            return self._future


_slots: WeakValueDictionary[Hashable, _Slot] = WeakValueDictionary()
_slots_lock = threading.Lock()


def _fill(future: Future[PairModel], load: Callable[[], PairModel]) -> None:
    try:
        future.set_result(load())
    except BaseException as error:  # noqa: BLE001 - every kind goes to those who wait
        future.set_exception(error)


async def _wait(future: Future[PairModel]) -> PairModel:
    # Shielded: others wait for the same model, and one who gives up must not take it from them.
    return await asyncio.shield(asyncio.wrap_future(future))
