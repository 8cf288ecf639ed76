"""What the framework plugins share: turning their settings into a `Reranker`."""

from __future__ import annotations

from os import PathLike
from typing import Literal, get_args

from ._inputs import check_threshold, check_top_n
from .errors import ConfigurationError
from .reranker import Reranker
from .scorers._device import Dtype
from .scorers._pairs import LongDocuments
from .scorers.local import LocalScorer

__all__ = [
    "Backend",
    "Dtype",
    "LongDocuments",
    "build_reranker",
    "check_threshold",
    "check_top_n",
]

Backend = Literal["local", "remote"]
"""Where a plugin's model runs: in this process, or behind a `/v1/rerank` service."""


def build_reranker(
    *,
    backend: Backend = "local",
    model: str | PathLike[str] | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    dtype: Dtype = "auto",
    device: str = "auto",
    max_length: int = 8192,
    long_documents: LongDocuments = "truncate",
    revision: str | None = None,
) -> Reranker:
    """A reranker from a plugin's settings.

    Args:
        backend: `"local"` or `"remote"`.
        model: None for the embedded model, or a local model's folder or hub id.
        api_key: Of the service; only with `backend="remote"`.
        base_url: Of the service; only with `backend="remote"`.
        dtype: As for `LocalScorer`.
        device: As for `LocalScorer`.
        max_length: As for `LocalScorer`.
        long_documents: As for `LocalScorer`.
        revision: As for `LocalScorer`.

    Raises:
        ConfigurationError: Settings are out of range or do not go together.
    """
    if backend not in get_args(Backend):
        raise ConfigurationError(f"backend must be one of {get_args(Backend)}, not {backend!r}")
    if backend == "remote":
        raise ConfigurationError(
            'backend="remote" is not in this version; leave it out to use a model on this machine'
        )
    for name, value in (("api_key", api_key), ("base_url", base_url)):
        if value is not None:
            raise ConfigurationError(f'{name} belongs to backend="remote", and backend is "local"')
    return Reranker(
        LocalScorer(
            model,
            dtype=dtype,
            device=device,
            max_length=max_length,
            long_documents=long_documents,
            revision=revision,
        )
    )
