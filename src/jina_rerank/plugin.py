"""The framework plugins' common part: settings to a `Reranker`, candidates to a list, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any, Literal, TypeVar, get_args

from ._inputs import check_items, check_threshold, check_top_n
from ._numbers import plain_number
from .errors import ConfigurationError, InputError, ServiceError
from .names import Source, name_of_path
from .reranker import Reranker
from .scorers._device import Dtype
from .scorers._installed import check_scorer_installed
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
    "check_candidates",
    "check_installed",
    "check_threshold",
    "check_top_n",
    "name_of_path",
    "plain_number",
    "renamed_errors",
]

T = TypeVar("T")

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
        ConfigurationError: Settings are out of range or do not go together, or a package is missing
            that a local model needs.
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
    return check_installed(Reranker(LocalScorer(model, **local)))


def check_installed(reranker: Reranker) -> Reranker:
    """The reranker, if the packages are installed that its scorer needs; none is imported.

    Raises:
        ConfigurationError: One is not: better now than at the first query.
    """
    check_scorer_installed(reranker.scorer)
    return reranker


def _check_untouched(settings: dict[str, Any], defaults: dict[str, Any], backend: Backend) -> None:
    changed = [name for name, default in defaults.items() if settings[name] != default]
    if changed:
        raise ConfigurationError(
            f'{", ".join(changed)} only means something with backend="{backend}"; '
            "leave it out, or change the backend"
        )


def check_candidates(candidates: object, kind: type[T], argument: str, remedy: str) -> list[T]:
    """The candidates as a new list, if each is of the framework's kind; empty is fine.

    Checked before anything is scored: whatever iterates will do, a generator too.

    Args:
        candidates: As the caller passed them.
        kind: The framework's class of a candidate.
        argument: The framework's name for the candidates.
        remedy: How to make a candidate of a text, for the message.

    Raises:
        InputError: They cannot be iterated in order, or one is of another kind; it names which.
    """
    plural = f"{kind.__name__} objects"
    if isinstance(candidates, kind):
        raise InputError(argument, f"must be a list of {plural}, not one; put it in a list")
    found: list[T] = []
    for i, candidate in enumerate(check_items(candidates, argument, plural, remedy)):
        if not isinstance(candidate, kind):
            problem = f"must be a {kind.__name__}, not {type(candidate).__name__}"
            hint = "leave it out" if candidate is None else remedy
            raise InputError(f"{argument}[{i}]", f"{problem}; {hint}")
        found.append(candidate)
    return found


@contextmanager
def renamed_errors(rename: Callable[[str], str]) -> Iterator[None]:
    """Have input errors name the framework's arguments in place of the core's.

    Args:
        rename: The framework's name for a name of the core's, such as `"nodes[3]"` for
            `"documents[3]"`.

    Raises:
        InputError: In place of one raised inside. What a service refuses is left as it is: there
            the names are the service's.
    """
    try:
        yield
    except InputError as error:
        name = error.argument if isinstance(error, ServiceError) else rename(error.argument)
        if name == error.argument:
            raise
        raise InputError(name, error.problem) from error
