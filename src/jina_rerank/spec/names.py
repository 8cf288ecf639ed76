"""Names of models: what a string that names a model means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Literal

from ..embedded import EMBEDDED_MODEL, EMBEDDED_NAMES, Source, find_source, folder_of
from ..errors import ConfigurationError, ModelLoadError

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
