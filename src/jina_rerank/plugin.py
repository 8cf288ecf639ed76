"""Common code of the framework plugins: settings to a `Reranker`, checks of candidates, errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeVar, get_args

from ._inputs import check_items, check_query, check_threshold, check_top_n, renamed_errors
from ._installed import check_scorer_installed
from ._numbers import plain_number
from .embedded import Source
from .errors import ConfigurationError, InputError
from .reranker import Reranker
from .scorers.base import LongDocuments
from .scorers.device import Dtype
from .scorers.service.dialects import DialectName, key_variables
from .scorers.service.secrets import KEY_VARIABLES, ApiKey
from .spec import Spec, build_scorer, name_of_path, parse

__all__ = [
    "KEY_VARIABLES",
    "Backend",
    "DialectName",
    "Dtype",
    "LongDocuments",
    "build_reranker",
    "check_candidates",
    "check_field_names",
    "check_installed",
    "check_query",
    "check_threshold",
    "check_top_n",
    "key_variables",
    "name_of_path",
    "needs_service",
    "plain_number",
    "refuse_assignment",
    "refuse_settings",
    "renamed_errors",
]

T = TypeVar("T")

Backend = Literal["local", "remote"]
"""The meaning of `model`: `"local"`, a name as in `scorer_of`; `"remote"`, a service's own name."""

_DEFAULTS: Mapping[str, Any] = {
    "dtype": "auto",
    "device": "auto",
    "max_length": 8192,
    "long_documents": "truncate",
    "revision": None,
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
    """Build a reranker from a plugin's settings.

    Args:
        backend: `"local"` or `"remote"`.
        model: With `"local"`, as for `scorer_of`: None for the embedded model, a hub id, a folder,
            `"cross-encoder:NAME"`, `"remote:MODEL@URL"` and others. With `"remote"`, as for
            `RemoteScorer`.
        api_key: As for `RemoteScorer`; this and the next four only with a service.
        base_url: As for `RemoteScorer`.
        dialect: As for `RemoteScorer`.
        timeout: As for `RemoteScorer`.
        max_retries: As for `RemoteScorer`.
        dtype: As for `LocalScorer`; this and the next four only for models on this machine.
        device: As for `LocalScorer`.
        max_length: As for `LocalScorer`.
        long_documents: As for `LocalScorer`.
        revision: As for `LocalScorer`.

    Raises:
        ConfigurationError: Settings are out of range or contradict each other, or a package that
            a local model needs is missing.
        AuthenticationError: There is no key for a hosted service.
    """
    key = None if api_key is None else ApiKey(api_key)
    # The traceback of a later error must not have the key among the locals of this frame.
    del api_key
    if backend not in get_args(Backend):
        raise ConfigurationError(f"backend must be one of {get_args(Backend)}, not {backend!r}")
    local = {
        "dtype": dtype,
        "device": device,
        "max_length": max_length,
        "long_documents": long_documents,
        "revision": revision,
    }
    remote = {
        "api_key": key,
        "base_url": base_url,
        "dialect": dialect,
        "timeout": timeout,
        "max_retries": max_retries,
    }
    spec = _spec_of(backend, model)
    changed_local, changed_remote = _changed(local), _changed(remote)
    if backend == "remote" and changed_local:
        _refuse(changed_local, "local", spec)
    if spec.runs_here and changed_remote:
        _refuse(changed_remote, "remote", spec)
    return check_installed(Reranker(build_scorer(spec, changed_local | changed_remote)))


def check_installed(reranker: Reranker) -> Reranker:
    """Check that the packages of a reranker's scorer are installed, without importing them.

    Returns:
        The reranker.

    Raises:
        ConfigurationError: A package is missing; otherwise the first query would fail.
    """
    check_scorer_installed(reranker.scorer)
    return reranker


def needs_service(backend: Backend, model: Source) -> bool:
    """Tell whether a plugin's model is behind a rerank service, which may require a key.

    Raises:
        ConfigurationError: The name cannot be read.
    """
    return _spec_of(backend, model).kind == "remote"


def _spec_of(backend: Backend, model: Source) -> Spec:
    if backend == "local":
        return parse(model)
    if isinstance(model, str) and model.startswith("remote:"):
        raise ConfigurationError(
            'model: with backend="remote" it is the service\'s own name; leave out "remote:", or '
            "leave out backend"
        )
    return Spec("remote", model)


def _changed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not at their defaults."""
    return {name: value for name, value in settings.items() if value != _DEFAULTS[name]}


def _refuse(settings: Mapping[str, Any], backend: Backend, spec: Spec) -> NoReturn:
    apply, them = ("applies", "it") if len(settings) == 1 else ("apply", "them")
    if backend == "local":
        kind, difference = "models on this machine", "is a service"
    else:
        kind, difference = "services", "runs on this machine"
    raise ConfigurationError(
        f"{', '.join(settings)}: {apply} to {kind} only, and {spec} {difference}; "
        f'leave {them} out, or set backend="{backend}"'
    )


def refuse_settings(given: Iterable[str], spellings: Mapping[str, str]) -> None:
    """Refuse settings that the official integration of Jina has under another name.

    Args:
        given: Names of settings that the plugin does not have.
        spellings: Advice on what to write instead, by the official name.

    Raises:
        ConfigurationError: A name is one of the official names.
        TypeError: A name is unknown in both.
    """
    for name in given:
        if name in spellings:
            raise ConfigurationError(f"{name}: {spellings[name]}")
        raise TypeError(f"there is no setting named {name!r}")


def refuse_assignment(name: str) -> NoReturn:
    """Refuse to assign a setting that is fixed when a plugin's object is built.

    Args:
        name: The setting. Its new value is not passed, since it may be a key.

    Raises:
        ConfigurationError: Always.
    """
    raise ConfigurationError(
        f"{name} cannot be assigned; build a new JinaRerank with it, or a copy by "
        f'model_copy(update={{"{name}": ...}})'
    )


def check_field_names(names: object, argument: str) -> list[str]:
    """Check that names of metadata fields are strings in a list or a tuple; return a new list.

    A set would put the fields in another order in each process.

    Args:
        names: The names as the caller passed them.
        argument: The plugin's name for them.

    Raises:
        ConfigurationError: They are not a sequence, or one is not a string.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigurationError(
            f'{argument} must be a list of names, such as ["title"], not {type(names).__name__}'
        )
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise ConfigurationError(f"{argument}[{i}] must be a string, not {type(name).__name__}")
    return list(names)


def check_candidates(candidates: object, kind: type[T], argument: str, remedy: str) -> list[T]:
    """Check that each candidate is of the framework's class; return a new list, possibly empty.

    The check comes before any scoring. Any iterable is accepted, a generator too.

    Args:
        candidates: The candidates as the caller passed them.
        kind: The framework's class of a candidate.
        argument: The framework's name for the candidates.
        remedy: How to make a candidate of a text, for the message.

    Raises:
        InputError: They cannot be iterated in order, or one is of another class; the message names
            it.
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
