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
"""Files of a tokenizer's vocabulary. Without any of them, the libraries would silently make a
tokenizer with an empty vocabulary."""

_SETTINGS = (
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "chat_template.jinja",
)
"""Files beside modules.json, without any of which the libraries would silently go on."""


def load_model(
    load: Callable[[str, bool], T], model: str | PathLike[str], revision: str | None = None
) -> T:
    """Load a model, found in the same way as by `LocalScorer`: a cached one needs no network.

    The hub's library retries an unreachable hub for each file, most of a minute in all. Here the
    hub is asked only for files that the cache lacks, and only if it answers at all. This is
    checked before `load`, which may import libraries that take seconds.

    Args:
        load: Loads a model by its folder or hub id; the second argument is whether to do so
            without the hub.
        model: A folder or a hub id.
        revision: A branch, tag or commit on the hub.

    Raises:
        ModelLoadError: The model cannot be loaded; the message says what to do.
        ModelNotFoundError: No model has this name.
        RerankError: As raised by `load`.
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
        own = _SETTINGS if hub.cached("modules.json") else ()
    # Where modules.json is unknown, the model may have one that names another pooling.
    if usable and all(_is_known(name, file, revision) for file in ("modules.json", *own)):
        try:
            return _load(load, name, True)
        except ModelLoadError as error:
            # These libraries raise an OSError for a missing file.
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
    """Begin the errors of a block in the common form: `NAME: cannot be loaded: ...`."""
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
    except Exception as error:  # the libraries' errors have no common base class
        raise ModelLoadError(f"{name}: cannot be loaded: {error}") from error
