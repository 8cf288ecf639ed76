"""`RemoteScorer`: scores from a `/v1/rerank` service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._numbers import check_count
from ..errors import AuthenticationError, ConfigurationError
from .service.address import endpoint
from .service.dialects import Dialect, DialectName, Parameters, find_dialect, key_variables
from .service.scorer import ServiceScorer
from .service.secrets import ApiKey, Secrets
from .service.wire import has_surrogates

if TYPE_CHECKING:
    from .service.session import Session

LISTWISE_MODELS = frozenset({"jina-reranker-v3", "jina-reranker-v3.5"})
"""Jina's models that read the documents of a request together (their cards: "listwise"), so that
a score depends a little on the other documents."""


class RemoteScorer(ServiceScorer):
    """Scores with a model behind a rerank service: Jina's hosted API, or another in `DialectName`.

    Building one costs nothing and sends nothing. It is safe to share between threads, event
    loops and forked processes. Its connections are on a separate thread, so it never blocks an
    event loop for longer than a wake-up. Pickles leave out the key and the headers; when a pickle
    is read, the key comes from the environment again.

    Args:
        model: The service's name for the model. None is jina-reranker-v3.5 with the dialect
            `"jina"`: the one that Jina's own documentation has used since July 2026 (v3 is
            deprecated, the v1 models fail at times).
        api_key: The key. None takes it from the environment: with the dialect `"jina"` from
            JINA_API_KEY, then JINAAI_API_KEY, and with `"voyage"` from VOYAGE_API_KEY. Each
            variable is read for its own dialect only.
        base_url: The service's address, with or without the path of the endpoint. None is the
            hosted service of the dialect, where there is one.
        dialect: `"jina"`, `"cohere"` (version 2), `"voyage"`, `"tei"` or `"sagemaker"`; see
            `DialectName`.
        timeout: The deadline of a whole call in seconds: every split, attempt and wait.
        connect_timeout: Longest wait for a connection, in seconds.
        read_timeout: Longest silence of the service before the request is given up and, if
            there is time, sent again; in seconds.
        max_retries: Most retries of a request after a connection error, a silence, or a status
            408, 409, 424, 429 or 5xx.
        max_concurrency: The most requests in flight at the same time. Fewer are sent when the
            service answers 429.
        max_documents: The most documents in one request; None is what the dialect allows
            (jina 512, cohere and voyage 1,000, tei 32, sagemaker 512). More are split over several.
        max_bytes: The most bytes in one request; 2 MB is what TEI accepts.
        max_tokens: The most tokens in one request, estimated; a free account of Jina's has
            100,000 a minute by the strictest source.
        max_doc_length: Longest document in tokens, for services that have this option.
        truncation: Whether the service cuts longer documents, for services that have this option.
        headers: Further headers; their values are kept as secret as the key.
        extra_body: Further fields of the request's body.
        allow_partial: Whether a call succeeds if only some documents could be scored. The others
            are then last in the ranking and named in `ranking.unscored`. Otherwise one failed
            part fails the call.
        http2: Whether to offer HTTP/2; needs `httpx[http2]`.

    Raises:
        ConfigurationError: A setting is out of range, or two do not go together.
        AuthenticationError: There is no key for a hosted service, or the key is malformed.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | ApiKey | None = None,
        base_url: str | None = None,
        dialect: DialectName = "jina",
        timeout: float = 30.0,
        connect_timeout: float = 5.0,
        read_timeout: float = 20.0,
        max_retries: int = 2,
        max_concurrency: int = 16,
        max_documents: int | None = None,
        max_bytes: int = 2_000_000,
        max_tokens: int = 100_000,
        max_doc_length: int | None = None,
        truncation: bool | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        allow_partial: bool = False,
        http2: bool = False,
    ) -> None:
        self._secrets = Secrets(api_key, headers, key_variables(dialect))
        # Error trackers collect the locals of this frame; no key must be among them when a later
        # line raises.
        del api_key, headers
        self._secrets.check()
        spoken = find_dialect(dialect)
        self._is_hosted = base_url is None
        if base_url is None:
            base_url = spoken.base_url
        if base_url is None:
            raise ConfigurationError(f"base_url is missing: there is no hosted {dialect!r} service")
        self._url = endpoint(base_url, spoken.path)
        self._check_key()
        if model is None:
            model = spoken.default_model
        if not isinstance(model, str | None) or (model is not None and not model.strip()):
            raise ConfigurationError(f"model must be a name, not {model!r}")
        if model is not None and has_surrogates(model):
            raise ConfigurationError(f"model holds half of a character: {model!r}")
        if model is None and spoken.needs_model:
            raise ConfigurationError(
                f"model is missing: the dialect {dialect!r} needs one and has no default"
            )
        self._dialect = spoken
        self._parameters = _check_parameters(
            spoken, Parameters(model, max_doc_length, truncation, extra=_check_fields(extra_body))
        )
        if max_documents is None:
            max_documents = spoken.max_documents
        self._http2 = http2
        super().__init__(
            model or urlsplit(self._url).netloc,
            timeout=timeout,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_retries=max_retries,
            max_concurrency=max_concurrency,
            max_documents=max_documents,
            max_bytes=max_bytes,
            max_tokens=max_tokens,
            allow_partial=allow_partial,
        )

    def __repr__(self) -> str:
        if "_conduct" not in self.__dict__:  # in the traceback of an error while it is built
            return "RemoteScorer(...)"
        return (
            f"RemoteScorer({self._parameters.model!r}, base_url={self._url!r}, "
            f"dialect={self._dialect.name!r}, timeout={self._conduct.timeout:g}, {self._secrets!r})"
        )

    @property
    def fingerprint(self) -> str:
        """Everything that determines the scores; see `CacheableScorer`."""
        parts = self._parameters
        return json.dumps(
            [
                "remote",
                self._url,
                self._dialect.name,
                parts.model,
                parts.max_doc_length,
                parts.truncation,
                parts.extra,
            ],
            sort_keys=True,
        )

    @property
    def listwise(self) -> bool:
        """Tell whether the model reads documents together; see `LISTWISE_MODELS`."""
        return self._parameters.model in LISTWISE_MODELS

    def _check_key(self) -> None:
        if self._is_hosted and not self._secrets.has_key:
            variables = " or ".join(self._secrets.variables)
            remedy = f"set {variables}, or pass api_key" if variables else "pass api_key"
            raise AuthenticationError(f"there is no key for {self._url}: {remedy}")

    def _open_session(self) -> Session:
        from .service.http import HttpTransport
        from .service.session import Session

        self._check_key()
        transport = HttpTransport(
            self._url,
            self._secrets,
            connect_timeout=self._connect_timeout,
            read_timeout=self._read_timeout,
            connections=self._conduct.max_concurrency,
            http2=self._http2,
        )
        return Session(
            self._url,
            transport,
            dialect=self._dialect,
            parameters=self._parameters,
            conduct=self._conduct,
        )


def _check_fields(extra_body: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check further fields of the body, and return them as a new dictionary."""
    fields = {} if extra_body is None else extra_body
    if not isinstance(fields, Mapping) or not all(isinstance(name, str) for name in fields):
        raise ConfigurationError("extra_body must be a dictionary with strings as its keys")
    try:
        written = json.dumps(dict(fields), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"extra_body is not JSON: {error}") from None
    if has_surrogates(written):
        raise ConfigurationError("extra_body holds half of a character, so it is not valid Unicode")
    return dict(fields)


def _check_parameters(dialect: Dialect, parameters: Parameters) -> Parameters:
    if parameters.max_doc_length is not None:
        length = check_count(parameters.max_doc_length, "max_doc_length")
        parameters = replace(parameters, max_doc_length=length)
    if not isinstance(parameters.truncation, bool | None):
        raise ConfigurationError("truncation must be True, False or None")
    for name in sorted(dialect.unsupported):
        if getattr(parameters, name) is not None:
            raise ConfigurationError(
                f"{name}: the dialect {dialect.name!r} has no such option; leave it out"
            )
    own = dialect.body("", [], Parameters(model="")).keys() | {"top_n"}
    if taken := sorted(own & parameters.extra.keys()):
        raise ConfigurationError(f"extra_body cannot replace {', '.join(taken)}")
    return parameters
