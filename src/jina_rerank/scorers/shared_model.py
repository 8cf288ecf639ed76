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
from typing import Any, Generic, Protocol, TypeVar, get_args
from weakref import WeakValueDictionary

from ..embedded import folder_of
from ..errors import ConfigurationError
from .base import LongDocuments
from .device import Dtype, check_device, check_dtype
from .weights import Weights, find_weights
from .worker import claim_process


class LoadedModel(Protocol):
    """A model in memory.

    Attributes:
        device: The device it runs on; its worker has the same name.
        weights: The weights it was loaded from.
    """

    device: str
    weights: Weights


ModelT = TypeVar("ModelT", bound=LoadedModel)


class SharedModelScorer(ABC, Generic[ModelT]):
    """A scorer whose model lives in this process, shared with all scorers of the same key.

    Args:
        model: The name to show.
        source: The model's source: a folder, a hub id, or None for the embedded model.
        revision: A branch, tag or commit on the hub.
        dtype: Dtype of the computation.
        device: Device of the computation.
        long_documents: Treatment of documents that do not fit.

    Raises:
        ConfigurationError: A setting is out of range.
        ModelNotFoundError: No folder and no hub id can have the source's name.
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
        if not isinstance(revision, str | None):
            raise ConfigurationError(f"revision must be a string, not {type(revision).__name__}")
        if revision is not None and not revision.strip():
            raise ConfigurationError("revision is blank; name a branch, a tag or a commit")
        if source is not None:
            folder_of(source)
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

        These are the package's version, the model, and the settings as given. A folder is
        identified by its path and its files, so a model that is trained again in the same place is
        another one. A hub id is identified by its commit in the cache. A model in memory keeps the
        identity it was loaded with, even if its files have been overwritten since.

        `"auto"` as dtype or device depends on this machine: set both where machines of different
        kinds share a cache. Versions of libraries are left out; they change the last digits.
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
    def has_weights(self) -> bool:
        """Tell whether the weights are on this machine; the fingerprint lacks them otherwise."""
        return self._find_weights() is not None

    @property
    def listwise(self) -> bool:
        """False: each document is read by itself."""
        return False

    @abstractmethod
    def _settings(self) -> dict[str, object]:
        """List the subclass's own settings that scores depend on."""

    @abstractmethod
    def _key(self) -> Hashable:
        """Make the key that distinguishes this scorer's model from all others in the process."""

    @abstractmethod
    def _load(self) -> ModelT:
        """Load the model; called on a separate thread, never twice at a time for one key."""

    def _find_weights(self) -> Weights:
        """Identify the weights that the model's source holds now."""
        return find_weights(self._source, self._revision)

    def _source_key(self) -> Hashable:
        """Make the key that distinguishes this scorer's source from others, whatever name is shown.

        A string is a hub id where there is no such folder; a path is always a folder. A folder
        whose files have changed holds another model.
        """
        if self._source is None:
            return None
        folder = folder_of(self._source)
        if folder.is_dir() or not isinstance(self._source, str):
            files = json.dumps(find_weights(folder, None))
            return ("folder", os.path.realpath(folder), files, self._revision)
        return ("hub", fspath(self._source), self._revision)

    def check_installed(self) -> None:
        """Check now, and not at the first call, that the packages are installed; none is imported.

        Raises:
            ConfigurationError: A package that loading needs is missing.
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
        """Release the model until the next call, which loads it again. Idempotent."""
        self._slot = None

    def close(self) -> None:
        """Release the model; it is freed when no other scorer uses it. Idempotent."""
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
        """Get the model if it has been loaded; None otherwise."""
        slot = self._slot
        return None if slot is None else slot.loaded

    async def _aloaded(self) -> ModelT:
        # Shielded: a cancelled caller must not cancel the loading that other callers wait for.
        return await asyncio.shield(asyncio.wrap_future(self._loading()))


class _Slot(Generic[ModelT]):
    """A model that is loaded once, however many callers need it at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._future: Future[ModelT] | None = None

    @property
    def loaded(self) -> ModelT | None:
        """The model, if it has been loaded; None otherwise."""
        future = self._future
        there = future is not None and future.done() and future.exception() is None
        return future.result() if there and future is not None else None

    def loading(self, load: Callable[[], ModelT]) -> Future[ModelT]:
        with self._lock:
            failed = self._future is not None and self._future.done() and self._future.exception()
            # All callers that waited get the failure; the next call tries again.
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
    except BaseException as error:  # noqa: BLE001 - passed on to the waiting callers
        future.set_exception(error)
