"""Loading a model of sentence-transformers: from a folder, the hub's cache or the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import TypeVar

from .errors import ModelLoadError, ModelNotFoundError, RerankError

T = TypeVar("T")

_TOKENIZERS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
)
"""Without any of them a tokenizer that knows no words would be made, and nobody told."""


def load_model(
    load: Callable[[str, bool], T], model: str | PathLike[str], revision: str | None = None
) -> T:
    """The model, found as `LocalScorer` finds its own: what is cached needs no network.

    The hub's library tries a hub that cannot be reached again for each file, most of a minute in
    all. Here it is asked only for what the cache lacks, and only if it answers at all. That comes
    before `load`, which may import libraries that take seconds.

    Args:
        load: Loads a model by its folder or hub id; the second argument is whether to do so
            without the hub.
        model: A folder or a hub id.
        revision: A branch, tag or commit on the hub.

    Raises:
        ModelLoadError: The model cannot be loaded; it says what to do.
        ModelNotFoundError: No model has this name.
        RerankError: As `load`, if it raises one.
    """
    name = fspath(model)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _load(load, str(folder), True)
    if not isinstance(model, str):
        raise ModelNotFoundError.no_folder(name)
    try:
        from .encoders.hub import HubModel
    except ImportError:  # sentence-transformers, which brings it, is missing too: `load` says so
        return _load(load, name, True)
    hub = HubModel(name, revision)
    with _said_of(name), hub.explained_errors():  # for names that the hub does not allow
        usable = hub.cached("config.json") is not None and any(map(hub.cached, _TOKENIZERS))
    # Where modules.json is unknown, the model may have one that names another pooling.
    if usable and _is_known(name, "modules.json", revision):
        try:
            return _load(load, name, True)
        except ModelLoadError as error:
            # A file that is missing is an OSError to these libraries.
            if not isinstance(error.__cause__, OSError):
                raise
            usable = False
    try:
        with _said_of(name):
            hub.check_online()
    except ModelLoadError:
        if not usable:
            raise
        return _load(load, name, True)
    return _load(load, name, False)


@contextmanager
def _said_of(name: str) -> Iterator[None]:
    """Have errors begin as all do that say a model cannot be loaded."""
    try:
        yield
    except ModelLoadError as error:
        reason = str(error).removeprefix(f"{name}: ")
        raise type(error)(f"{name}: cannot be loaded: {reason}") from error


def _is_known(name: str, file: str, revision: str | None) -> bool:
    """Tell whether the cache has the file, or has noted that there is none on the hub."""
    from huggingface_hub import try_to_load_from_cache

    return try_to_load_from_cache(name, file, revision=revision) is not None


def _load(load: Callable[[str, bool], T], name: str, offline: bool) -> T:
    try:
        return load(name, offline)
    except RerankError:
        raise
    except Exception as error:  # the libraries below have no base of their own
        raise ModelLoadError(f"{name}: cannot be loaded: {error}") from error
