"""Settings of a service, in order of precedence: flags, environment, file, defaults."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, get_args

from .._lines import read_text
from .._numbers import check_count, check_seconds
from ..errors import ConfigurationError, InputError
from ..scorers.device import Dtype
from ..scorers.in_process import LEAST_MAX_LENGTH

PREFIX = "JINA_RERANK_"

Check = Callable[[object, str], float]
"""Function that raises a `ConfigurationError` if the number, its first argument, is out of range.
The second argument is the name for the message."""

CHECKS: Mapping[str, Check] = {
    "port": partial(check_count, least=0, most=2**16 - 1),
    "max_length": partial(check_count, least=LEAST_MAX_LENGTH),
    "max_body_bytes": check_count,
    "max_documents": check_count,
    "max_request_tokens": check_count,
    "max_queued_tokens": check_count,
    "deadline": check_seconds,
    "drain": partial(check_seconds, allow_zero=True),
    "idle_unload": partial(check_seconds, allow_zero=True),
}
"""Settings that are numbers, with the checks of their ranges."""

PATHS = ("key_file", "ssl_certfile", "ssl_keyfile", "unix_socket")
"""Settings that are paths."""

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\\?#@,\sA-Z]+")

_ROOT_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a service. Only `keys` is a secret, and it is never shown.

    Attributes:
        models: Models to serve: names as for `scorer_of`, or `name=` and such a name. The first
            answers requests that name no model.
        host: Address to listen on.
        port: Port, up to 65535; 0 for any free port.
        unix_socket: Socket file to listen on instead of an address. Its permissions, 0660 less the
            umask, decide who may connect. It is created at the start and removed at the end. The
            socket file of a killed process is replaced; any other existing file is an error.
        any_model: True if the first model answers for every name that is not served. The answers
            name the model.
        ignore_instruction: True to ignore an `instruction` that the model cannot use, and say so in
            the answer; otherwise such a request is refused.
        fallback: A name of `models`, or an entry as there: the model that answers, degraded, for
            each model of another service while that service fails. Blank for none.
        ssl_certfile: A certificate in PEM, followed by its chain, for HTTPS. Read at the start.
        ssl_keyfile: The certificate's private key in PEM, without a password; None if it is in
            `ssl_certfile`.
        root_path: Prefix under which a proxy offers the service, such as `/rerank`. The proxy may
            keep it in the paths or remove it.
        cors_origins: Origins of web pages that may send requests, such as `https://page.example`;
            `*` for every page. Without any, no page of another origin may.
        key_file: File with names and keys, one pair per line; read again when it changes.
        keys: Names and keys in one line, separated by commas, in addition to those of the file.
        allow_anonymous: True to allow a service without keys to listen on more than the loopback,
            and to be asked under any host name; see `hosts.check_host`.
        dtype: Data type of models in torch: `"auto"`, `"float32"`, `"bfloat16"` or `"int8"`; see
            `LocalScorer`. Other models ignore it.
        max_length: Maximum tokens of a pair for models on this machine, at least 16.
        max_body_bytes: Maximum size of a request's body.
        max_documents: Maximum number of documents in a request.
        max_request_tokens: Maximum number of tokens in a request, estimated.
        max_queued_tokens: Maximum number of tokens of all requests that wait or are being answered,
            estimated; a single request may have more.
        deadline: Maximum time for one request, in seconds, and for its call to another service,
            which has half of it if there is a `fallback`. Amazon SageMaker waits for 60.
        drain: Seconds to continue accepting after SIGTERM, until load balancers have noticed.
        idle_unload: Seconds without a request after which a model of this process is unloaded,
            until the next request loads it again; 0 for never.
        log_level: Lowest level that is logged: `"debug"`, `"info"`, `"warning"` or `"error"`.

    Raises:
        ConfigurationError: A setting is out of range, or two conflict. Numbers must be finite, and
            seconds at most 1,000,000.
    """

    models: tuple[str, ...] = ("jina-rerank-mini",)
    host: str = "127.0.0.1"
    port: int = 8000
    unix_socket: Path | None = None
    any_model: bool = False
    ignore_instruction: bool = False
    fallback: str = ""
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    root_path: str = ""
    cors_origins: tuple[str, ...] = ()
    key_file: Path | None = None
    keys: str = field(default="", repr=False)
    allow_anonymous: bool = False
    dtype: str = "auto"
    max_length: int = 8192
    max_body_bytes: int = 10_000_000
    max_documents: int = 1000
    max_request_tokens: int = 500_000
    max_queued_tokens: int = 500_000
    deadline: float = 55.0
    drain: float = 0.0
    idle_unload: float = 0.0
    log_level: str = "info"

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigurationError("models: name at least one")
        if self.dtype not in get_args(Dtype):
            raise ConfigurationError(
                f"dtype must be one of {', '.join(get_args(Dtype))}, not {self.dtype!r}"
            )
        for name, check in CHECKS.items():
            check(getattr(self, name), name)
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    "cors_origins: each must be * or an origin such as https://page.example, in "
                    f"lower case and without a path, not {origin!r}"
                )
        if not _ROOT_PATH.fullmatch(self.root_path):
            raise ConfigurationError(
                "root_path must be a path such as /rerank, of letters, digits and . _ ~ -, with a "
                f"slash at its beginning and none at its end, not {self.root_path!r}"
            )
        if self.log_level not in {"debug", "info", "warning", "error"}:
            raise ConfigurationError(
                f"log_level must be debug, info, warning or error, not {self.log_level!r}"
            )
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ConfigurationError(
                "ssl_keyfile is the key of a certificate; set ssl_certfile, too"
            )
        # The permissions of a socket file decide who may connect.
        is_local = self.unix_socket is not None or _is_loopback(self.host)
        if not self.has_keys and not self.allow_anonymous and not is_local:
            raise ConfigurationError(
                f"without keys the service listens on the loopback only, not on {self.host}: "
                "set key_file or keys, or allow_anonymous if something in front of it asks for keys"
            )

    @property
    def has_keys(self) -> bool:
        """True if clients need a key."""
        return self.key_file is not None or bool(self.keys)

    @classmethod
    def read(
        cls,
        flags: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        file: Path | None = None,
    ) -> Self:
        """Read the settings from flags, environment and file.

        Args:
            flags: Flags of the command line, by name; None for flags that are not given.
            environment: Variables such as JINA_RERANK_PORT; models and origins are separated by
                commas. None for the process's environment.
            file: A TOML file, with the settings' names as keys.

        Raises:
            ConfigurationError: A setting cannot be read, is out of range, or is unknown; the
                message names it as it was given, for example by its variable.
        """
        defaults = {f.name: f.default for f in dataclasses.fields(cls)}
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        if file is not None:
            for name, value in _read_file(file, set(defaults)).items():
                values[name] = _parse(name, defaults[name], value, f"{file}: {name}")
        for name, default in defaults.items():
            variable = PREFIX + name.upper()
            if variable in environment:
                values[name] = _parse(name, default, environment[variable], variable)
        for name, value in flags.items():
            if value is not None:
                values[name] = _parse(name, defaults[name], value, name)
        return cls(**values)

    def shown(self) -> dict[str, Any]:
        """Return the settings as plain values, without secrets."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["keys"] = "set" if self.keys else ""
        for name in PATHS:
            values[name] = None if values[name] is None else str(values[name])
        for name in ("models", "cors_origins"):
            values[name] = list(values[name])
        return values


def _read_file(file: Path, known: set[str]) -> dict[str, Any]:
    try:
        found = tomllib.loads(read_text(file))
    except InputError as error:
        raise ConfigurationError(str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: cannot be read as TOML: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{file}: cannot be read as TOML: nested too deeply") from None
    unknown = sorted(set(found) - known)
    if unknown:
        raise ConfigurationError(f"{file}: there is no setting {unknown[0]!r}")
    return found


def _parse(name: str, default: object, value: object, where: str) -> object:
    """Convert a value, which may be a string of the environment, to the setting's type."""
    try:
        if isinstance(default, tuple):
            parts = value
            if isinstance(value, str):
                parts = [part for part in value.split(",") if part.strip()]
            if not isinstance(parts, list | tuple):
                raise TypeError
            return tuple(str(part).strip() for part in parts)
        if name in PATHS:
            return _to_path(value)
        if isinstance(default, bool):
            return _to_bool(value)
        if isinstance(default, int | float):
            number = _to_number(value, type(default))
            CHECKS[name](number, where)
            return number
        if not isinstance(value, str):
            raise TypeError
        if name == "root_path":
            return value.rstrip("/")
    except (TypeError, ValueError, OverflowError):
        # The message does not contain the value, which may be a misplaced key.
        kind = "path" if name in PATHS else type(default).__name__
        raise ConfigurationError(f"{where}: cannot be read as {kind}") from None
    return value


def _to_path(value: object) -> Path | None:
    if not isinstance(value, str | Path):
        raise TypeError
    # An empty variable is one that is not set, and Path("") would be the current folder.
    return None if isinstance(value, str) and not value.strip() else Path(value)


def _to_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return words[str(value).lower()]
    except KeyError:
        raise ValueError from None


def _to_number(value: object, kind: type[int | float]) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if kind is int and isinstance(value, float):
        raise TypeError
    return kind(value)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
