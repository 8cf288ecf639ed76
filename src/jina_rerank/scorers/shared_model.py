"""Base of scorers whose model is in this process: it is loaded once, on another thread."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_args
from weakref import WeakValueDictionary

from ..errors import ConfigurationError
from .base import LongDocuments
from .device import Dtype, check_device, check_dtype
from .weights import Weights, find_weights
from .worker import claim_process


class LoadedModel(Protocol):
    """A model in memory.

    Attributes:
        device: Where it runs; its worker has the same name.
        weights: Which weights it was loaded from.
    """

    device: str
    weights: Weights


ModelT = TypeVar("ModelT", bound=LoadedModel)


class SharedModelScorer(ABC, Generic[ModelT]):
    """A scorer whose model lives in this process, shared with all scorers of the same key.

    Args:
        model: The name to show.
        source: Where it is: a folder, a hub id, or None for the embedded model.
        revision: A branch, tag or commit on the hub.
        dtype: What to compute in.
        device: Where.
        long_documents: What to do with documents that do not fit.

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
        long_documents: LongDocuments,
    ) -> None:
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
        self._long_documents = long_documents
        self._closed = False
        self._slot: _Slot[ModelT] | None = None
        self._weights: Weights = None

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._model

    @property
    def fingerprint(self) -> str:
        """Everything that its scores depend on: see `CacheableScorer`.

        The package's version, which model, and the settings as given. A folder is told by where
        it is and by its files, so a model that is trained anew in the same place is another one; a
        hub id by its commit in the cache. A model in memory is the one that was loaded, whatever
        was written over it since.

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
                "weights": weights or self._find_weights(),
                "revision": self._revision,
                "dtype": self._dtype,
                "device": self._device.partition(":")[0],
                **self._settings(),
                "long_documents": self._long_documents,
            }
        )

    @property
    def listwise(self) -> bool:
        """False: each document is read by itself."""
        return False

    @abstractmethod
    def _settings(self) -> dict[str, object]:
        """The settings of its own that scores depend on."""

    @abstractmethod
    def _key(self) -> Hashable:
        """The key that tells this scorer's model from all others in the process."""

    @abstractmethod
    def _load(self) -> ModelT:
        """Load the model; on a thread of its own, never twice at a time for one key."""

    def _find_weights(self) -> Weights:
        """The weights that are under its name now."""
        return find_weights(self._source, self._revision)

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

    def check_installed(self) -> None:
        """Say now, and not at the first call, if a package is missing; none is imported.

        Raises:
            ConfigurationError: One that loading needs is not installed.
        """

    def warm_up(self) -> None:
        """Load the model now. Idempotent.

        Raises:
            ModelLoadError: It cannot be loaded.
            ConfigurationError: The scorer is closed, or an extra is missing.
        """
        self._loading().result()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self._aloaded()

    def unload(self) -> None:
        """Let go of the model until the next call, which loads it again. Idempotent."""
        self._slot = None

    def close(self) -> None:
        """Let go of the model; the last scorer to do so frees it. Idempotent."""
        self._closed = True
        self.unload()

    async def aclose(self) -> None:
        """`close`; it never blocks."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_slot": None}

    def _loading(self) -> Future[ModelT]:
        if self._closed:
            raise ConfigurationError(f"the scorer of {self._model} is closed; make a new one")
        claim_process()
        slot = self._slot
        if slot is None:
            with _slots_lock:
                slot = self._slot = _slots.setdefault(self._key(), _Slot())
        return slot.loading(self._load)

    def _loaded(self) -> ModelT | None:
        """The model, if it is there; nothing is loaded."""
        slot = self._slot
        return None if slot is None else slot.loaded

    async def _aloaded(self) -> ModelT:
        # Shielded: others wait for the same model, and one who gives up must not take it from them.
        return await asyncio.shield(asyncio.wrap_future(self._loading()))


class _Slot(Generic[ModelT]):
    """A model that is loaded once, however many ask at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._future: Future[ModelT] | None = None

    @property
    def loaded(self) -> ModelT | None:
        """The model, if it is there."""
        future = self._future
        there = future is not None and future.done() and future.exception() is None
        return future.result() if there and future is not None else None

    def loading(self, load: Callable[[], ModelT]) -> Future[ModelT]:
        with self._lock:
            failed = self._future is not None and self._future.done() and self._future.exception()
            # A failure is told to all who waited for it; the next call tries again.
            if self._future is None or failed:
                self._future = Future()
                threading.Thread(
                    target=_fill, args=(self._future, load), name="jina-rerank-load", daemon=True
                ).start()
            return self._future


_slots: WeakValueDictionary[Hashable, _Slot[Any]] = WeakValueDictionary()
_slots_lock = threading.Lock()


def _fill(future: Future[ModelT], load: Callable[[], ModelT]) -> None:
    try:
        future.set_result(load())
    except BaseException as error:  # noqa: BLE001 - every kind goes to those who wait
        future.set_exception(error)
