"""What the framework plugins share: turning their settings into a `Reranker`."""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any, Literal, get_args

from ._inputs import check_threshold, check_top_n
from .errors import ConfigurationError
from .names import Source, name_of_path
from .reranker import Reranker
from .scorers._device import Dtype
from .scorers._pairs import LongDocuments
from .scorers.local import LocalScorer
from .scorers.remote import RemoteScorer
from .scorers.service.dialects import DialectName
from .scorers.service.secrets import KEY_VARIABLES, ApiKey

__all__ = [
    "KEY_VARIABLES",
    "Backend",
    "DialectName",
    "Dtype",
    "LongDocuments",
    "build_reranker",
    "check_threshold",
    "check_top_n",
    "name_of_path",
]

Backend = Literal["local", "remote"]
"""Where a plugin's model runs: in this process, or behind a `/v1/rerank` service."""

_LOCAL_DEFAULTS = {
    "dtype": "auto",
    "device": "auto",
    "max_length": 8192,
    "long_documents": "truncate",
    "revision": None,
}
_REMOTE_DEFAULTS = {
    "api_key": None,
    "base_url": None,
    "dialect": "jina",
    "timeout": 30.0,
    "max_retries": 2,
}


def build_reranker(
    *,
    backend: Backend = "local",
    model: Source = None,
    api_key: str | None = None,
    base_url: str | None = None,
    dialect: DialectName = "jina",
    timeout: float = 30.0,
    max_retries: int = 2,
    dtype: Dtype = "auto",
    device: str = "auto",
    max_length: int = 8192,
    long_documents: LongDocuments = "truncate",
    revision: str | None = None,
) -> Reranker:
    """A reranker from a plugin's settings.

    Args:
        backend: `"local"` or `"remote"`.
        model: With `"local"`, None or `jina-rerank-mini` for the embedded model, or a folder or
            hub id. With `"remote"`, as for `RemoteScorer`.
        api_key: As for `RemoteScorer`; this and the next four only with `"remote"`.
        base_url: As for `RemoteScorer`.
        dialect: As for `RemoteScorer`.
        timeout: As for `RemoteScorer`.
        max_retries: As for `RemoteScorer`.
        dtype: As for `LocalScorer`; this and the next four only with `"local"`.
        device: As for `LocalScorer`.
        max_length: As for `LocalScorer`.
        long_documents: As for `LocalScorer`.
        revision: As for `LocalScorer`.

    Raises:
        ConfigurationError: Settings are out of range or do not go together.
        AuthenticationError: There is no key for a hosted service.
    """
    key = None if api_key is None else ApiKey(api_key)
    # Whatever is raised from here on, the key is not among the locals of this frame.
    del api_key
    if backend not in get_args(Backend):
        raise ConfigurationError(f"backend must be one of {get_args(Backend)}, not {backend!r}")
    local: dict[str, Any] = {
        "dtype": dtype,
        "device": device,
        "max_length": max_length,
        "long_documents": long_documents,
        "revision": revision,
    }
    remote: dict[str, Any] = {
        "api_key": key,
        "base_url": base_url,
        "dialect": dialect,
        "timeout": timeout,
        "max_retries": max_retries,
    }
    if backend == "remote":
        _check_untouched(local, _LOCAL_DEFAULTS, "local")
        name = fspath(model) if isinstance(model, PathLike) else model
        return Reranker(RemoteScorer(name, **remote))
    _check_untouched(remote, _REMOTE_DEFAULTS, "remote")
    return Reranker(LocalScorer(model, **local))


def _check_untouched(settings: dict[str, Any], defaults: dict[str, Any], backend: Backend) -> None:
    changed = [name for name, default in defaults.items() if settings[name] != default]
    if changed:
        raise ConfigurationError(
            f'{", ".join(changed)} only means something with backend="{backend}"; '
            "leave it out, or change the backend"
        )
