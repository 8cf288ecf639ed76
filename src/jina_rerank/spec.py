"""The one door: from a string that names a model to the scorer that runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from .embedded import EMBEDDED_MODEL, EMBEDDED_NAMES, Source, find_source
from .errors import ConfigurationError
from .scorers.base import LongDocuments, Scorer
from .scorers.cross_encoder import CrossEncoderScorer
from .scorers.device import Dtype
from .scorers.installed import is_installed
from .scorers.local import INSTALL_LOCAL, LocalScorer
from .scorers.onnx import INSTALL_ONNX, OnnxScorer
from .scorers.remote import RemoteScorer
from .scorers.sagemaker import SageMakerScorer
from .scorers.service.dialects import DialectName
from .scorers.service.secrets import ApiKey

Kind = Literal[
    "embedded", "local", "onnx", "cross-encoder", "remote", "sagemaker", "bi-encoder", "bm25"
]
"""Kinds of names: one kind for each scorer, and two that need a collection."""

PREFIXES: Mapping[str, str] = {
    "cross-encoder": "cross-encoder:NAME",
    "onnx": "onnx:FOLDER",
    "remote": "remote:MODEL or remote:MODEL@URL",
    "sagemaker": "sagemaker:ENDPOINT",
    "bi-encoder": "bi-encoder:NAME",
}
"""By prefix: what is written."""

BM25 = "bm25"
"""The name of BM25 where a collection is at hand."""

NEED_COLLECTION = frozenset({"bi-encoder", "bm25"})
"""Kinds that are built where a collection is at hand: in an evaluation or a recipe."""

_IN_TORCH = ("models that run in torch", frozenset({"local", "cross-encoder"}))
_HERE = ("models on this machine", frozenset({"local", "cross-encoder", "onnx"}))
_SERVICES = ("remote:MODEL and sagemaker:ENDPOINT", frozenset({"remote", "sagemaker"}))
_REMOTE = ("remote:MODEL", frozenset({"remote"}))
_TAKERS: Mapping[str, tuple[str, frozenset[str]]] = {
    "dtype": _IN_TORCH,
    "device": _IN_TORCH,
    "revision": _IN_TORCH,
    "max_length": _HERE,
    "long_documents": _HERE,
    "api_key": _REMOTE,
    "base_url": _REMOTE,
    "dialect": _REMOTE,
    "timeout": _SERVICES,
    "max_retries": _SERVICES,
}
"""By option: which models have it, in words and by kind."""

_HOSTED = re.compile(r"jina-(?:reranker|colbert)-[\w.-]+")
"""Names of Jina's hosted rerankers: jina-reranker-v2-base-multilingual, jina-colbert-v2, …"""

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""The files of weights that `encoders.files` looks for; its package needs libraries that may be
missing where a name is read."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Meaning of a model's name. Nothing is loaded or asked.

    Attributes:
        kind: What runs it.
        name: A hub id, a folder, or a service's own name. None is the embedded model, or the
            default model of a service.
        url: Where the service is, if the name says so; not shown.
    """

    kind: Kind
    name: Source = None
    url: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The name as it would be written, without an address, which may hold what is secret."""
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
    return Spec("onnx" if _is_export(Path(source).expanduser()) else "local", source)


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
    """The scorer that a model's name means. Its model is not loaded yet, and nothing is sent.

    The options are those of the scorer's own class, and None is its default.

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
        ConfigurationError: The name cannot be read; an option was given that its scorer does not
            have, or is out of range; or there is nothing installed that runs the embedded model.
        AuthenticationError: There is no key for a hosted service, or the key is malformed.
    """
    key = None if api_key is None else ApiKey.wrap(api_key)
    # Whatever is raised from here on, the key is not among the locals of this frame.
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
    return build_scorer(spec, {name: value for name, value in given.items() if value is not None})


def build_scorer(spec: Spec, options: Mapping[str, Any]) -> Scorer:
    """The scorer of a name that has been read; see `scorer_of`.

    Args:
        spec: From `parse`.
        options: Those that were given, by the names that `scorer_of` has for them.

    Raises:
        ConfigurationError: As for `scorer_of`.
        AuthenticationError: As for `scorer_of`.
    """
    if spec.kind in NEED_COLLECTION:
        raise ConfigurationError(
            f"model: {spec} needs a collection, which an evaluation and a recipe have; name a "
            "reranker here"
        )
    kind = _engine_of_the_embedded() if spec.kind == "embedded" else spec.kind
    _check_options(spec, kind, options)
    name = spec.name
    if kind == "local":
        return LocalScorer(name, **options)
    if kind == "onnx":
        return OnnxScorer(name, **options)
    if kind == "remote":
        url = options.get("base_url", spec.url)
        service_name = fspath(name) if isinstance(name, PathLike) else name
        return RemoteScorer(service_name, **{**options, "base_url": url})
    assert name is not None
    if kind == "sagemaker":
        return SageMakerScorer(fspath(name), **options)
    return CrossEncoderScorer(name, **options)


def checkpoint_of(model: Source) -> Source:
    """The folder or hub id of a model whose weights are to be read; None is the embedded one.

    Raises:
        ConfigurationError: The name means something else than a checkpoint.
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
    """The name that clients use for a served model, and the model, from `NAME=MODEL` or `MODEL`.

    A path is a model and nothing else, whatever characters it has: an existing folder, and what
    begins with `/`, `.` or `~`. So is what begins with a known prefix.

    Raises:
        ConfigurationError: There is nothing before or after the equals sign.
    """
    name, equals, model = entry.partition("=")
    is_model = entry.startswith(("/", ".", "~")) or _prefix_of(name) in PREFIXES
    if not equals or is_model or Path(entry).is_dir():
        return entry, entry
    name, model = name.strip(), model.strip()
    if not name or not model:
        raise ConfigurationError(
            f"models: {entry!r} lacks a part; write NAME=MODEL, or a model alone"
        )
    return name, model


def name_of_path(model: Source) -> str | None:
    """A model's name as a string, for frameworks that keep strings only.

    A path that would mean something else as a string is begun with `./`, so that it stays a path.
    """
    if not isinstance(model, PathLike):
        return model
    path = fspath(model)
    means_another = path in EMBEDDED_NAMES or path == BM25 or _prefix_of(path) is not None
    return f"./{path}" if means_another else path


def _prefix_of(name: str) -> str | None:
    """The prefix before the first colon, or None where the colon is part of a path."""
    prefix, colon, _ = name.partition(":")
    # One letter is a drive of Windows.
    is_path = len(prefix) == 1 or name.startswith((".", "~")) or "/" in prefix or "\\" in prefix
    return prefix if colon and not is_path else None


def _prefixed(name: str, prefix: str) -> Spec:
    rest = name.partition(":")[2]
    known = ", ".join(PREFIXES.values())
    match prefix:
        case "cross-encoder" | "onnx" | "remote" | "sagemaker" | "bi-encoder":
            kind: Kind = prefix
        case _:
            # Not the whole: a user may have written an address that holds a password.
            raise ConfigurationError(
                f"model: {prefix!r} before the colon is not known; there are {known}. A folder "
                "with a colon in its name is written ./NAME"
            )
    if not rest:
        raise ConfigurationError(f"model: {name!r} lacks a name behind the colon; write {known}")
    if rest.isspace():
        raise ConfigurationError(f"model: {rest!r} is blank behind the colon; write {known}")
    if kind != "remote":
        return Spec(kind, rest)
    asked, at, url = rest.partition("@")
    if at and not url:
        raise ConfigurationError(f"model: {name!r} lacks an address behind the @")
    return Spec(kind, asked or None, url or None)


def _refuse_hosted(name: str) -> None:
    """The hosted service's names look like those of folders, and the hub has none without a user.

    Raises:
        ConfigurationError: It is such a name, and no folder here.
    """
    if _HOSTED.fullmatch(name) and not Path(name).exists():
        raise ConfigurationError(
            f'model: {name} is a name of Jina\'s hosted service: write "remote:{name}" for the '
            'service (in a plugin, backend="remote" does it as well), or a hub id such as '
            f'"jinaai/{name}" or a folder for a model on this machine'
        )


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
        f"{INSTALL_LOCAL}, or {INSTALL_ONNX}"
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
