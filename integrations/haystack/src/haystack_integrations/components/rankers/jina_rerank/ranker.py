"""`JinaRanker`: Haystack's documents in, the best of them out."""

import asyncio
import inspect
import os
import re
from copy import deepcopy
from functools import partial
from os import PathLike
from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.core.errors import DeserializationError
from haystack.utils import ComponentDevice, Secret

from jina_rerank import AuthenticationError, ConfigurationError, Reranker
from jina_rerank.plugin import (
    KEY_VARIABLES,
    Backend,
    DialectName,
    Dtype,
    LongDocuments,
    build_reranker,
    check_installed,
    check_threshold,
    check_top_n,
    key_variables,
    name_of_path,
    needs_service,
    plain_number,
    renamed_errors,
)

from ._documents import RankerOutput, answer, read_documents, tag_span

KEY_FROM_ENVIRONMENT = Secret.from_env_var(list(KEY_VARIABLES), strict=False)
"""The key that `RemoteScorer` looks for by itself, so it is left to it."""


_OFFICIAL = "haystack_integrations.components.rankers.jina."
"""Where jina-haystack's ranker is."""


@component
class JinaRanker:
    """Puts the documents that answer a query first.

    Building one is cheap. A local model is loaded when the pipeline warms up or at the first run,
    once for all components in the process that use the same one; keys are read then, too. Safe to
    run from many threads and event loops at a time.

    A token of `api_key` is never written down: `to_dict` and `pickle` refuse one. Copies within
    the process (`copy`, `deepcopy`) keep it.

    Args:
        model: None for the embedded model (offline, no key); a hub id or a folder; or another name
            of a model, such as `"cross-encoder:NAME"` or `"remote:MODEL@URL"`. With
            `backend="remote"`, the service's name for the model; None for jina-reranker-v3.5 with
            the dialect `"jina"`.
        top_k: How many documents to return, at least 1; None for all.
        score_threshold: Return only documents that score at least this much.
        meta_fields_to_embed: Metadata to put in front of a document's content before it is
            scored, in this order; fields that a document does not have are left out.
        embedding_separator: What goes between these fields and the content.
        backend: `"local"` reads `model` as said there, `"remote"` asks a service for it.
        api_key: The service's key. The default, and None, are the first of JINA_API_KEY and
            JINAAI_API_KEY that is set, with the dialect `"jina"` only; there may be none where
            `base_url` is given. Where no service is asked these are ignored, and any other is
            refused.
        base_url: Where the service is, with or without the path of the endpoint; None for the
            hosted service of the dialect.
        dialect: How the service is spoken to: `"jina"`, `"cohere"`, `"voyage"`, `"tei"` or
            `"sagemaker"`.
        timeout: The deadline of a whole run in seconds, retries and waits included.
        max_retries: How often a request is sent again after a failure that may pass.
        device: None for the first CUDA device if there is one, otherwise the CPU.
        dtype: What a local model computes in: `"auto"`, `"float32"` or `"bfloat16"`.
        max_length: Longest pair of query and document in tokens.
        long_documents: What to do with a document that does not fit: `"truncate"` reads its
            beginning, `"chunk"` reads it all in windows and takes the best, `"error"` refuses.
        revision: A branch, tag or commit of the model on the hub.
        reranker: A `jina_rerank.Reranker` built by hand, to share one or to score with
            something else. It is never closed here, and it cannot be serialized.

    Raises:
        ValueError: `top_k` is not above 0, or `score_threshold` is no number.
        ConfigurationError: Any other setting is out of range, two do not go together, or a package
            is missing that the model needs.
        AuthenticationError: There can be no key for a hosted service.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        # In the order of the official integration's, which may be given without their names.
        api_key: Secret | None = KEY_FROM_ENVIRONMENT,
        top_k: int | None = 10,
        score_threshold: float | None = None,
        *,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        backend: Backend = "local",
        base_url: str | None = None,
        dialect: DialectName = "jina",
        timeout: float = 30.0,
        max_retries: int = 2,
        device: ComponentDevice | None = None,
        dtype: Dtype = "auto",
        max_length: int = 8192,
        long_documents: LongDocuments = "truncate",
        revision: str | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        # YAML knows no paths.
        self.model = name_of_path(model)
        self.top_k = _check_top_k(top_k)
        self.score_threshold = check_threshold(score_threshold, "score_threshold")
        if isinstance(meta_fields_to_embed, str):
            raise ConfigurationError(
                f"meta_fields_to_embed must be a list: [{meta_fields_to_embed!r}] for one field"
            )
        self.meta_fields_to_embed = list(meta_fields_to_embed or [])
        self.embedding_separator = embedding_separator
        self.backend = backend
        self.api_key = api_key
        self.base_url = base_url
        self.dialect = dialect
        # Nor does it know numpy's numbers.
        self.timeout = plain_number(timeout)
        self.max_retries = plain_number(max_retries)
        self.device = device
        self.dtype = dtype
        self.max_length = plain_number(max_length)
        self.long_documents = long_documents
        self.revision = revision
        self.reranker = reranker
        self._own: Reranker | None = None
        self._check_settings()

    def to_dict(self) -> dict[str, Any]:
        """The component as plain data, for `Pipeline.dumps`.

        Raises:
            ConfigurationError: It was given a `reranker`.
            ValueError: Its key was given as a token and not by the name of a variable.
        """
        if self.reranker is not None:
            raise ConfigurationError(
                "a reranker built by hand cannot be serialized; give JinaRanker the settings "
                "instead, or leave it out and add it to the pipeline after loading"
            )
        return default_to_dict(
            self,
            model=self.model,
            top_k=self.top_k,
            score_threshold=self.score_threshold,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            backend=self.backend,
            api_key=self.api_key,
            base_url=self.base_url,
            dialect=self.dialect,
            timeout=self.timeout,
            max_retries=self.max_retries,
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
            long_documents=self.long_documents,
            revision=self.revision,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` described; `data` stays as it is.

        Raises:
            DeserializationError: `data` describes something else.
        """
        if str(data.get("type")).startswith(_OFFICIAL):
            raise DeserializationError(
                "this is the JinaRanker of jina-haystack: write type: "
                "haystack_integrations.components.rankers.jina_rerank.ranker.JinaRanker, and add "
                "backend: remote to its init_parameters; the others keep their names"
            )
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Load the model, or read the key, now instead of at the first run. Idempotent.

        Nothing is sent to a service.

        Raises:
            ModelLoadError: The model cannot be loaded.
            AuthenticationError: There is no key for a hosted service, or it is malformed.
            ValueError: `api_key` is strict and its variable is not set.
        """
        self._open().warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self._open().awarm_up()

    def close(self) -> None:
        """Let go of the model or the connections; the next run gets them again. Idempotent.

        A `reranker` that was passed in stays open.
        """
        own, self._own = self._own, None
        if own is not None:
            own.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        own, self._own = self._own, None
        if own is not None:
            await own.aclose()

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> RankerOutput:
        """Rank documents by their relevance to a query.

        Documents with the same id are ranked once; the one that came with the highest score is
        kept. A document without content is scored as an empty text.

        Args:
            query: The question; not blank.
            documents: The candidates. None at all gives an empty answer.
            top_k: How many to return; None for the component's own setting.
            score_threshold: Return only scores of at least this much; None likewise.

        Returns:
            `documents`, best first, copies that carry their new score; equal scores keep the
            order in which they came. `meta`, with `model`, `usage`, `degraded` and `unscored`.

        Raises:
            ValueError: `top_k` is not above 0; or, as an `InputError` that names the
                argument, the query or the documents cannot be used; or as for `warm_up`.
            ModelLoadError: The model cannot be loaded.
            ScoringError: A score came out as NaN, or the process was forked.
            ServiceError: As one of its kinds, for each way in which a service can fail.
        """
        top_k, score_threshold = self._limits(top_k, score_threshold)
        places, candidates, texts = self._read(documents)
        with renamed_errors(partial(_name_document, places)):
            ranking = self._open().rank(query, texts, top_n=top_k, threshold=score_threshold)
        tag_span(ranking, top_k)
        return answer(candidates, ranking)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> RankerOutput:
        """`run` without blocking the event loop; cancelling it stops the work.

        Args:
            query: As for `run`.
            documents: As for `run`.
            top_k: As for `run`.
            score_threshold: As for `run`.

        Returns:
            As for `run`.

        Raises:
            ValueError: As for `run`.
            ModelLoadError: As for `run`.
            ScoringError: As for `run`.
            ServiceError: As for `run`.
        """
        top_k, score_threshold = self._limits(top_k, score_threshold)
        # Both ends work in a thread: thousands of documents would hold up the loop.
        places, candidates, texts = await asyncio.to_thread(self._read, documents)
        with renamed_errors(partial(_name_document, places)):
            ranking = await self._open().arank(query, texts, top_n=top_k, threshold=score_threshold)
        tag_span(ranking, top_k)
        return await asyncio.to_thread(answer, candidates, ranking)

    def __copy__(self) -> Self:
        return self._copied(self._state())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._copied(self._state(), memo)

    def __getstate__(self) -> dict[str, Any]:
        if self.api_key is not None:
            self.api_key.to_dict()  # refuses, for a token, in Haystack's own words
        return self._state()

    def _state(self) -> dict[str, Any]:
        # Not what it has opened: closing one of two must leave the other as it is.
        return {**vars(self), "_own": None}

    def _copied(self, state: dict[str, Any], memo: dict[int, Any] | None = None) -> Self:
        """A copy by hand: by way of __getstate__ it could not have a token."""
        copied = type(self).__new__(type(self))
        if memo is not None:
            memo[id(self)] = copied
            state = deepcopy(state, memo)
        vars(copied).update(state)
        return copied

    def _check_settings(self) -> None:
        """Refuse settings that do not go together, long before a model is loaded."""
        if self.api_key is not None and not isinstance(self.api_key, Secret):
            raise ConfigurationError(
                'api_key must be a Secret, such as Secret.from_env_var("JINA_API_KEY"), '
                f"not {type(self.api_key).__name__}"
            )
        if self.reranker is None:
            # Keys are read when warming up, so that a pipeline can be loaded where there are
            # none. All that matters yet is whether there may be one.
            may_come = bool(key_variables(self.dialect)) and needs_service(self.backend, self.model)
            is_needed = may_come or self._given_key() is not None
            build_reranker(api_key="unread" if is_needed else None, **self._settings())
            return
        if not isinstance(self.reranker, Reranker):
            raise ConfigurationError(
                f"reranker must be a jina_rerank.Reranker, not {type(self.reranker).__name__}"
            )
        parameters = inspect.signature(JinaRanker.__init__).parameters
        for name in inspect.signature(build_reranker).parameters:
            if getattr(self, name) != parameters[name].default:
                raise ConfigurationError(
                    f"{name} and reranker do not go together: a reranker brings its own settings"
                )
        check_installed(self.reranker)

    def _settings(self) -> dict[str, Any]:
        """Those of `build_reranker`, without the key: no frame that may raise holds it."""
        return {
            "backend": self.backend,
            "model": self.model,
            "base_url": self.base_url,
            "dialect": self.dialect,
            "timeout": self.timeout,
            "max_retries": self.max_retries,
            "dtype": self.dtype,
            "device": _name_device(self.device),
            "max_length": self.max_length,
            "long_documents": self.long_documents,
            "revision": self.revision,
        }

    def _open(self) -> Reranker:
        """The reranker, built now if need be; its model is not loaded yet."""
        if self.reranker is not None:
            return self.reranker
        # Two threads may both build one, which costs little: they share the model, and the
        # connections of one that is forgotten are closed.
        own = self._own
        if own is None:
            own = build_reranker(api_key=self._read_key(), **self._settings())
            self._own = own
        return own

    def _given_key(self) -> Secret | None:
        """None for Jina's key of the environment, which the scorer finds by itself."""
        return None if self.api_key == KEY_FROM_ENVIRONMENT else self.api_key

    def _read_key(self) -> str | None:
        secret = self._given_key()
        if secret is None:
            return None
        key: str | None = secret.resolve_value()
        # The scorer takes None for leave to look for itself, and the key that it would find is
        # not the one that was meant for this service.
        if key is None and any(map(os.environ.get, key_variables(self.dialect))):
            names = " or ".join(secret.to_dict()["env_vars"])
            raise AuthenticationError(
                f"api_key: {names} is not set, and no other key is sent in its place; set it, or "
                f"leave api_key out for {' or '.join(key_variables(self.dialect))}"
            )
        return key

    def _limits(
        self, top_k: int | None, score_threshold: float | None
    ) -> tuple[int | None, float | None]:
        """This run's limits; only None, and not 0, stands for the component's own."""
        if score_threshold is None:
            score_threshold = self.score_threshold
        return (
            _check_top_k(self.top_k if top_k is None else top_k),
            check_threshold(score_threshold, "score_threshold"),
        )

    def _read(self, documents: list[Document]) -> tuple[list[int], list[Document], list[str]]:
        """The documents to rank: where they were among `documents`, they, and their texts."""
        found = read_documents(documents)
        return list(found), list(found.values()), [self._text(one) for one in found.values()]

    def _text(self, document: Document) -> str:
        fields = (document.meta.get(name) for name in self.meta_fields_to_embed)
        parts = [str(value) for value in fields if value is not None]
        return self.embedding_separator.join([*parts, document.content or ""])


def _check_top_k(top_k: int | None) -> int | None:
    number = plain_number(top_k)
    # What every Haystack ranker says, word for word: code out there matches on it.
    if isinstance(number, int) and number <= 0:
        raise ValueError(f"top_k must be > 0, but got {number}")
    return check_top_n(number, "top_k")


def _name_document(places: list[int], argument: str) -> str:
    """The caller's name for a document of the core's, who has each id only once."""
    found = re.fullmatch(r"documents\[(\d+)\]", argument)
    return argument if found is None else f"documents[{places[int(found[1])]}]"


def _name_device(device: ComponentDevice | None) -> str:
    # Not Haystack's own default, which prefers Apple's GPU: torch leaks and aborts there.
    if device is None:
        return "auto"
    if not isinstance(device, ComponentDevice):
        raise ConfigurationError(
            f'device must be a ComponentDevice, such as ComponentDevice.from_str("cuda:0"), '
            f"not {type(device).__name__}"
        )
    try:
        return device.to_torch_str()
    except ValueError as error:
        raise ConfigurationError(f"device: a reranker runs on a single one; {error}") from error
