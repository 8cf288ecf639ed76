"""Names of models: from a string that names a model to the scorer that runs it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from ._installed import install_command, is_installed
from .embedded import EMBEDDED_MODEL, EMBEDDED_NAMES, Source, find_source, folder_of
from .errors import ConfigurationError, ModelLoadError
from .scorers.base import LongDocuments, Scorer
from .scorers.bi_encoder import BiEncoderScorer
from .scorers.bm25 import Bm25Scorer
from .scorers.cross_encoder import CrossEncoderScorer
from .scorers.device import Dtype
from .scorers.local import LocalScorer
from .scorers.onnx import OnnxScorer
from .scorers.remote import RemoteScorer
from .scorers.sagemaker import SageMakerScorer
from .scorers.service.dialects import DialectName
from .scorers.service.secrets import ApiKey
from .scorers.sparse_encoder import SparseEncoderScorer

Kind = Literal[
    "embedded",
    "local",
    "onnx",
    "cross-encoder",
    "remote",
    "sagemaker",
    "bi-encoder",
    "sparse-encoder",
    "bm25",
]
"""Kinds of names: one kind for each scorer."""

PREFIXES: Mapping[str, str] = {
    "cross-encoder": "cross-encoder:NAME",
    "onnx": "onnx:FOLDER",
    "remote": "remote:MODEL or remote:MODEL@URL",
    "sagemaker": "sagemaker:ENDPOINT",
    "bi-encoder": "bi-encoder:NAME",
    "sparse-encoder": "sparse-encoder:NAME",
}
"""Spelling of a model's name, by its prefix."""

BM25 = "bm25"
"""The name of BM25, which needs a collection."""

EMBEDDING = frozenset({"bi-encoder", "sparse-encoder"})
"""Kinds that embed query and document separately, as a first stage does."""

NEED_COLLECTION = EMBEDDING | {"bm25"}
"""Kinds that need a collection, which an evaluation and a recipe have."""

_IN_TORCH = ("models that run in torch", EMBEDDING | {"local", "cross-encoder"})
_HERE = ("models on this machine", EMBEDDING | {"local", "cross-encoder", "onnx"})
_EMBEDDING = ("bi-encoder:NAME and sparse-encoder:NAME", EMBEDDING)
_SERVICES = ("remote:MODEL and sagemaker:ENDPOINT", frozenset({"remote", "sagemaker"}))
_REMOTE = ("remote:MODEL", frozenset({"remote"}))
_TAKERS: Mapping[str, tuple[str, frozenset[str]]] = {
    "dtype": _IN_TORCH,
    "device": _IN_TORCH,
    "revision": _IN_TORCH,
    "max_length": _HERE,
    "long_documents": _HERE,
    "query_prompt": _EMBEDDING,
    "passage_prompt": _EMBEDDING,
    "api_key": _REMOTE,
    "base_url": _REMOTE,
    "dialect": _REMOTE,
    "timeout": _SERVICES,
    "max_retries": _SERVICES,
}
"""Models that have an option, in words and as kinds, by the option's name."""

_SCORERS: Mapping[str, Callable[..., Scorer]] = {
    "local": LocalScorer,
    "onnx": OnnxScorer,
    "cross-encoder": CrossEncoderScorer,
    "sagemaker": SageMakerScorer,
    "bi-encoder": BiEncoderScorer,
    "sparse-encoder": SparseEncoderScorer,
}
"""Scorers that are built from a name and options, by kind."""

_HOSTED = re.compile(r"jina-(?:reranker|colbert)-[\w.-]+")
"""Names of Jina's hosted rerankers: jina-reranker-v2-base-multilingual, jina-colbert-v2, …"""

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of the weight files that `encoders.files` looks for. They are repeated here, because that
package needs libraries that may be missing where a name is read."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Meaning of a model's name. No model is loaded, and no service is asked.

    Attributes:
        kind: The kind of scorer that runs the model.
        name: A hub id, a folder, or a service's own name. None is the embedded model, or the
            default model of a service.
        url: The service's address, if the name holds one; left out of the repr.
    """

    kind: Kind
    name: Source = None
    url: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Return the name as it would be written, without an address, which may hold a secret."""
        if self.kind == "embedded":
            return EMBEDDED_MODEL
        name = "" if self.name is None else fspath(self.name)
        if self.kind in PREFIXES:
            return f"{self.kind}:{name}"
        return name

    @property
    def runs_here(self) -> bool:
        """Tell whether the model is computed in this process."""
        return self.kind not in {"remote", "sagemaker"}


def parse(model: Source) -> Spec:
    """Read a model's name.

    Args:
        model: As for `scorer_of`. A path is a folder, whatever characters it has.

    Raises:
        ConfigurationError: The name is blank, lacks a part, or has an unknown prefix.
        ModelNotFoundError: The name has no prefix, and neither a folder nor a hub id can have it.
    """
    if not isinstance(model, str | PathLike | None):
        raise ConfigurationError(f"model must be a name or a folder, not {type(model).__name__}")
    source = find_source(model)
    if source is None:
        return Spec("embedded")
    if isinstance(source, str):
        if source == BM25:
            return Spec("bm25", BM25)
        if (prefix := _prefix_of(source)) is not None:
            return _prefixed(source, prefix)
        _refuse_hosted(source)
    return Spec("onnx" if _is_export(folder_of(source)) else "local", source)


def scorer_of(
    model: Source | Spec = None,
    *,
    dtype: Dtype | None = None,
    device: str | None = None,
    max_length: int | None = None,
    long_documents: LongDocuments | None = None,
    revision: str | None = None,
    api_key: str | ApiKey | None = None,
    base_url: str | None = None,
    dialect: DialectName | None = None,
    timeout: float | None = None,
    max_retries: int | None = None,
) -> Scorer:
    """Build the scorer that a model's name stands for. No model is loaded, and nothing is sent.

    The options are arguments of the scorer's class; None is the default of that class.

    Args:
        model: None, `jina-rerank-mini` or `mini` for the embedded model, which runs in torch where
            it is installed and otherwise in ONNX Runtime; a hub id or a folder for `LocalScorer`,
            or for `OnnxScorer` if the folder holds model.onnx and no other weights;
            `cross-encoder:NAME`, `onnx:FOLDER`, `remote:MODEL`, `remote:MODEL@URL` or
            `sagemaker:ENDPOINT`. A folder with a colon in its name is written `./NAME`.
        dtype: For models that run in torch; see `LocalScorer`.
        device: As `dtype`.
        max_length: For models on this machine, in tokens; see `LocalScorer`.
        long_documents: For models on this machine; see `LocalScorer`.
        revision: For models that run in torch: a branch, tag or commit on the hub.
        api_key: For `remote:`; see `RemoteScorer`.
        base_url: As `api_key`, where the name holds no address.
        dialect: As `api_key`.
        timeout: For `remote:` and `sagemaker:`; the deadline of a whole call in seconds.
        max_retries: For `remote:` and `sagemaker:`.

    Raises:
        ConfigurationError: The name cannot be read or needs a collection; an option was given that
            its scorer does not have, or is out of range; or neither torch nor ONNX Runtime is
            installed to run the embedded model.
        AuthenticationError: There is no key for a hosted service, or the key is malformed.
    """
    key = None if api_key is None else ApiKey.wrap(api_key)
    # The traceback of a later error must not have the key among the locals of this frame.
    del api_key
    spec = model if isinstance(model, Spec) else parse(model)
    given: dict[str, Any] = {
        "dtype": dtype,
        "device": device,
        "max_length": max_length,
        "long_documents": long_documents,
        "revision": revision,
        "api_key": key,
        "base_url": base_url,
        "dialect": dialect,
        "timeout": timeout,
        "max_retries": max_retries,
    }
    return build_scorer(spec, _given(given))


def collection_scorer_of(
    model: Source | Spec,
    collection: Collection[str],
    *,
    dtype: Dtype | None = None,
    max_length: int | None = None,
    long_documents: LongDocuments | None = None,
    query_prompt: str | None = None,
    passage_prompt: str | None = None,
) -> Scorer:
    """Build the scorer that a model's name stands for, where there is a collection.

    Args:
        model: As for `scorer_of`; or `bm25`, `bi-encoder:NAME` or `sparse-encoder:NAME`.
        collection: The searched texts, in which `bm25` counts words.
        dtype: As for `scorer_of`.
        max_length: As for `scorer_of`.
        long_documents: As for `scorer_of`.
        query_prompt: For `bi-encoder:` and `sparse-encoder:`; see `BiEncoderScorer`.
        passage_prompt: As `query_prompt`.

    Raises:
        ConfigurationError: As for `scorer_of`.
        AuthenticationError: As for `scorer_of`.
    """
    given = {
        "dtype": dtype,
        "max_length": max_length,
        "long_documents": long_documents,
        "query_prompt": query_prompt,
        "passage_prompt": passage_prompt,
    }
    spec = model if isinstance(model, Spec) else parse(model)
    return build_scorer(spec, _given(given), collection)


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def build_scorer(
    spec: Spec, options: Mapping[str, Any], collection: Collection[str] | None = None
) -> Scorer:
    """Build the scorer of a parsed name; see `scorer_of`.

    Args:
        spec: A name that `parse` has read.
        options: The options that were given, by their names in `scorer_of`.
        collection: As for `collection_scorer_of`; None where there are only the few documents of
            each call.

    Raises:
        ConfigurationError: As for `scorer_of`.
        AuthenticationError: As for `scorer_of`.
    """
    if spec.kind in NEED_COLLECTION and collection is None:
        why = "in which words are counted" if spec.kind == "bm25" else "whose vectors it keeps"
        raise ConfigurationError(
            f"model: {spec} needs a collection, {why}; an evaluation and a recipe have one. Name a "
            "reranker here"
        )
    kind = _engine_of_the_embedded() if spec.kind == "embedded" else spec.kind
    _check_options(spec, kind, options)
    name = spec.name
    if kind == "bm25":
        assert collection is not None
        return Bm25Scorer(collection)
    if kind == "remote":
        url = options.get("base_url", spec.url)
        service_name = fspath(name) if isinstance(name, PathLike) else name
        return RemoteScorer(service_name, **{**options, "base_url": url})
    return _SCORERS[kind](name, **options)


def has_option(spec: Spec, name: str) -> bool:
    """Tell whether the scorer of a name has an option; `name` is its name in `scorer_of`.

    Raises:
        ConfigurationError: Neither torch nor ONNX Runtime is installed to run the embedded model.
    """
    kind = _engine_of_the_embedded() if spec.kind == "embedded" else spec.kind
    return kind in _TAKERS[name][1]


def checkpoint_of(model: Source) -> Source:
    """Find the folder or hub id of a model's checkpoint; None is the embedded model.

    Raises:
        ConfigurationError: The name does not stand for a checkpoint that runs natively.
    """
    spec = parse(model)
    if spec.kind == "onnx":
        raise ConfigurationError(
            f"model: {spec} is an ONNX export; name the checkpoint that it was made from"
        )
    if spec.kind not in {"embedded", "local"}:
        raise ConfigurationError(
            f"model: {spec} is no checkpoint that runs natively; name a folder or a hub id"
        )
    return spec.name


def split_served(entry: str) -> tuple[str, str]:
    """Split `NAME=MODEL`, or `MODEL`, into the name that clients use and the model.

    An existing folder is a model as a whole, even if its path has an equals sign. So is an entry
    that begins with `/`, `.`, `~` or a known prefix.

    Raises:
        ConfigurationError: There is nothing before or after the equals sign.
    """
    name, equals, model = entry.partition("=")
    is_model = entry.startswith(("/", ".", "~")) or _prefix_of(name) in PREFIXES
    if not equals or is_model or _is_folder(entry):
        return entry, entry
    name, model = name.strip(), model.strip()
    if not name or not model:
        raise ConfigurationError(
            f"models: {entry!r} lacks a part; write NAME=MODEL, or a model alone"
        )
    return name, model


def name_of_path(model: Source) -> str | None:
    """Convert a model's name to a string, for frameworks that keep strings only.

    A path that would have another meaning as a string gets `./` in front, so that it stays a path.
    """
    if not isinstance(model, PathLike):
        return model
    path = fspath(model)
    means_another = path in EMBEDDED_NAMES or path == BM25 or _prefix_of(path) is not None
    return f"./{path}" if means_another else path


def _prefix_of(name: str) -> str | None:
    """Find the prefix before the first colon; None where the colon is part of a path."""
    prefix, colon, _ = name.partition(":")
    # A single letter is a Windows drive.
    is_path = len(prefix) == 1 or name.startswith((".", "~")) or "/" in prefix or "\\" in prefix
    return prefix if colon and not is_path else None


def _prefixed(name: str, prefix: str) -> Spec:
    rest = name.partition(":")[2]
    known = ", ".join(PREFIXES.values())
    match prefix:
        case "cross-encoder" | "onnx" | "remote" | "sagemaker" | "bi-encoder" | "sparse-encoder":
            kind: Kind = prefix
        case _:
            # The rest is not quoted: it may be an address that holds a password.
            raise ConfigurationError(
                f"model: {prefix!r} before the colon is not known; there are {known}. A folder "
                "with a colon in its name is written ./NAME"
            )
    if not rest:
        raise ConfigurationError(f"model: {name!r} lacks a name behind the colon; write {known}")
    asked, at, url = rest.partition("@") if kind == "remote" else (rest, "", "")
    if asked.isspace():
        raise ConfigurationError(f"model: {asked!r} is blank behind the colon; write {known}")
    if kind != "remote":
        return Spec(kind, rest)
    if at and not url:
        raise ConfigurationError(f"model: {name!r} lacks an address behind the @")
    return Spec(kind, asked or None, url or None)


def _refuse_hosted(name: str) -> None:
    """Refuse the name of a model of Jina's hosted service, unless such a folder exists.

    Such a name looks like a folder's; it is no hub id, which has a user in front.

    Raises:
        ConfigurationError: It is such a name, and there is no such folder.
    """
    if _HOSTED.fullmatch(name) and not _is_folder(name):
        raise ConfigurationError(
            f'model: {name} is a name of Jina\'s hosted service: write "remote:{name}" for the '
            'service (in a plugin, backend="remote" does it as well), or a hub id such as '
            f'"jinaai/{name}" or a folder for a model on this machine'
        )


def _is_folder(path: str) -> bool:
    try:
        return folder_of(path).is_dir()
    except ModelLoadError:  # no folder can have this path
        return False


def _is_export(folder: Path) -> bool:
    """Tell whether a folder holds an ONNX graph and no weights for torch."""
    return (folder / "model.onnx").is_file() and not any(
        (folder / name).is_file() for name in _WEIGHTS
    )


def _engine_of_the_embedded() -> Kind:
    if is_installed("torch"):
        return "local"
    if is_installed("onnxruntime"):
        return "onnx"
    raise ConfigurationError(
        f"{EMBEDDED_MODEL} needs torch or ONNX Runtime, and neither is installed: "
        f"{install_command('local')}, or {install_command('onnx')}"
    )


def _check_options(spec: Spec, kind: Kind, options: Mapping[str, object]) -> None:
    wrong = [name for name in options if kind not in _TAKERS[name][1]]
    if wrong:
        runs = " in ONNX Runtime" if spec.kind == "embedded" and kind == "onnx" else ""
        raise ConfigurationError(
            f"{', '.join(wrong)}: {spec}{runs} does not have this option, which is for "
            f"{_TAKERS[wrong[0]][0]}; leave it out"
        )
    if spec.url is not None and "base_url" in options:
        raise ConfigurationError(f"base_url: {spec} has an address in its name; leave one out")
