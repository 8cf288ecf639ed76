"""The scorer of a model's name, with the options that it has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from os import PathLike, fspath
from typing import Any

from .._installed import install_command, is_installed
from ..embedded import EMBEDDED_MODEL, Source
from ..errors import ConfigurationError
from ..scorers.base import LongDocuments, Scorer
from ..scorers.bi_encoder import BiEncoderScorer
from ..scorers.bm25 import Bm25Scorer
from ..scorers.cross_encoder import CrossEncoderScorer
from ..scorers.device import Dtype
from ..scorers.local import LocalScorer
from ..scorers.onnx import OnnxScorer
from ..scorers.remote import RemoteScorer
from ..scorers.sagemaker import SageMakerScorer
from ..scorers.service.dialects import DialectName
from ..scorers.service.secrets import ApiKey
from ..scorers.sparse_encoder import SparseEncoderScorer
from .names import EMBEDDING, NEED_COLLECTION, Kind, Spec, parse

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
