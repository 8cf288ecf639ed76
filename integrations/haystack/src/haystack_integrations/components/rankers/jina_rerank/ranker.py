"""`JinaRanker`: a Haystack component that ranks documents."""

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
    check_field_names,
    check_installed,
    check_threshold,
    key_variables,
    name_of_path,
    needs_service,
    plain_number,
    renamed_errors,
)

from ._documents import RankerOutput, answer, read_documents, tag_span
from ._settings import check_separator, check_top_k, name_device

KEY_FROM_ENVIRONMENT = Secret.from_env_var(list(KEY_VARIABLES), strict=False)
"""The default key, which `RemoteScorer` reads from the environment by itself."""


_OFFICIAL = "haystack_integrations.components.rankers.jina."
"""Module of jina-haystack's ranker."""


@component
class JinaRanker:
    """Puts the documents that answer a query first.

    Creating a component is cheap. Keys are read and a local model is loaded when the pipeline warms
    up or at the first run; components of a process share the same model. The component may be run
    from several threads and event loops at a time.

    A token in `api_key` is never written to files: `to_dict` and `pickle` refuse it. Copies within
    the process (`copy`, `deepcopy`) keep it.

    Args:
        model: None for the embedded model (offline, no key); a hub id or a folder; or another name
            of a model, such as `"cross-encoder:NAME"` or `"remote:MODEL@URL"`. With
            `backend="remote"`, the service's name for the model; None for jina-reranker-v3.5 with
            the dialect `"jina"`.
        top_k: Number of documents to return, at least 1; None for all.
        score_threshold: Minimum score of documents to return.
        meta_fields_to_embed: Fields of the metadata to put in front of a document's content before
            it is scored, in this order; missing fields are left out.
        embedding_separator: Separator between these fields and the content.
        backend: `"local"` for a model as described at `model`, `"remote"` for a model of a service.
        api_key: Key of the service. With the default or None it is the environment's:
            JINA_API_KEY, then JINAAI_API_KEY, with the dialect `"jina"`, and VOYAGE_API_KEY with
            `"voyage"`; with a `base_url` the key is optional. Without a service, the default and
            None are ignored, and other keys are refused.
        base_url: Address of the service, with or without the path of the endpoint; None for the
            hosted service of the dialect.
        dialect: API of the service: `"jina"`, `"cohere"`, `"voyage"`, `"tei"` or `"sagemaker"`.
        timeout: Deadline of a whole run in seconds, including retries and waits.
        max_retries: Maximum number of retries after a temporary failure.
        device: None for the first CUDA device if there is one, otherwise the CPU.
        dtype: Data type of a local model: `"auto"`, `"float32"`, `"bfloat16"` or `"int8"` (on a CPU
            with VNNI); auto is bfloat16 where the processor is faster with it, otherwise float32.
        max_length: Maximum tokens of a pair of query and document.
        long_documents: Treatment of documents that are too long: `"truncate"` reads the beginning,
            `"chunk"` reads all of it in windows and takes the best score, `"error"` refuses.
        revision: A branch, tag or commit of the model on the hub.
        reranker: A `jina_rerank.Reranker`, to share one or to use another scorer. It is never
            closed by the component, and it cannot be serialized.

    Raises:
        ValueError: `top_k` is not above 0, or `score_threshold` is not a number.
        ConfigurationError: Another setting is out of range, two conflict, or a package that the
            model needs is missing.
        AuthenticationError: There can be no key for a hosted service.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        # The order of the official integration, whose arguments may be positional.
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
        # YAML has no paths.
        self.model = name_of_path(model)
        self.top_k = check_top_k(top_k)
        self.score_threshold = check_threshold(score_threshold, "score_threshold")
        fields = [] if meta_fields_to_embed is None else meta_fields_to_embed
        self.meta_fields_to_embed = check_field_names(fields, "meta_fields_to_embed")
        self.embedding_separator = check_separator(embedding_separator)
        self.backend = backend
        self.api_key = api_key
        self.base_url = base_url
        self.dialect = dialect
        # YAML has no numbers of numpy.
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
        """Convert the component to plain data, for `Pipeline.dumps`.

        Raises:
            ConfigurationError: The component was created with a `reranker`.
            ValueError: The key was given as a token and not by the name of a variable.
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
        """Create the component from the result of `to_dict`, which is not changed.

        Raises:
            DeserializationError: `data` is not for this component.
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
        """Run `warm_up` without blocking the event loop."""
        await self._open().awarm_up()

    def close(self) -> None:
        """Release the model or the connections; the next run opens them again. Idempotent.

        A `reranker` that was passed to the component is not closed.
        """
        own, self._own = self._own, None
        if own is not None:
            own.close()

    async def close_async(self) -> None:
        """Run `close` without blocking the event loop."""
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

        Of documents with the same id, only the one with the highest previous score is ranked. A
        document without content is scored as an empty text.

        Args:
            query: The question; not blank.
            documents: The candidates. For an empty list the result is empty.
            top_k: Number of documents to return; None for the component's setting.
            score_threshold: Minimum score of documents to return; None for the component's setting.

        Returns:
            `documents`, copies with their new scores, best first; equal scores keep the order of
            the input. `meta`, with `model`, `usage`, `degraded` and `unscored`.

        Raises:
            ValueError: `top_k` is not above 0; or, as an `InputError` that names the
                argument, the query or the documents cannot be used; or as for `warm_up`.
            ModelLoadError: The model cannot be loaded.
            ScoringError: A score is NaN, or the process was forked.
            ServiceError: The service failed; a subclass for each kind of failure.
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
        """Rank as `run` does without blocking the event loop; cancelling stops the work.

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
        # Input and output are processed in a thread: thousands of documents would block the loop.
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
            self.api_key.to_dict()  # raises Haystack's error for a token
        return self._state()

    def _state(self) -> dict[str, Any]:
        # Without the opened reranker: closing a component must not affect its copy.
        return {**vars(self), "_own": None}

    def _copied(self, state: dict[str, Any], memo: dict[int, Any] | None = None) -> Self:
        """Copy without __getstate__, which refuses tokens."""
        copied = type(self).__new__(type(self))
        if memo is not None:
            memo[id(self)] = copied
            state = deepcopy(state, memo)
        vars(copied).update(state)
        return copied

    def _check_settings(self) -> None:
        """Refuse conflicting settings before a model is loaded."""
        if self.api_key is not None and not isinstance(self.api_key, Secret):
            raise ConfigurationError(
                'api_key must be a Secret, such as Secret.from_env_var("JINA_API_KEY"), '
                f"not {type(self.api_key).__name__}"
            )
        if self.reranker is None:
            # Keys are read when warming up, so that a pipeline can be loaded without them. For the
            # check it only matters whether a key is possible.
            may_come = bool(key_variables(self.dialect)) and needs_service(self.backend, self.model)
            is_needed = may_come or self._given_key() is not None
            build_reranker(api_key="unread" if is_needed else None, **self._settings())
            return
        if not isinstance(self.reranker, Reranker):
            raise ConfigurationError(
                f"reranker must be a jina_rerank.Reranker, not {type(self.reranker).__name__}"
            )
        parameters = inspect.signature(JinaRanker.__init__).parameters
        names = [name for name in inspect.signature(build_reranker).parameters if name != "api_key"]
        changed = [name for name in names if getattr(self, name) != parameters[name].default]
        if self._given_key() is not None:
            changed.append("api_key")
        if changed:
            raise ConfigurationError(
                f"{', '.join(changed)} and reranker do not go together: a reranker brings its own "
                "settings; leave out one or the other"
            )
        check_installed(self.reranker)

    def _settings(self) -> dict[str, Any]:
        """Return `build_reranker`'s settings without the key, to keep it out of tracebacks."""
        return {
            "backend": self.backend,
            "model": self.model,
            "base_url": self.base_url,
            "dialect": self.dialect,
            "timeout": self.timeout,
            "max_retries": self.max_retries,
            "dtype": self.dtype,
            "device": name_device(self.device),
            "max_length": self.max_length,
            "long_documents": self.long_documents,
            "revision": self.revision,
        }

    def _open(self) -> Reranker:
        """Return the reranker, and build it if necessary, without loading its model."""
        if self.reranker is not None:
            return self.reranker
        # Two threads may both build one, which costs little: they share the model, and the
        # connections of the reranker that is dropped are closed.
        own = self._own
        if own is None:
            own = build_reranker(api_key=self._read_key(), **self._settings())
            self._own = own
        return own

    def _given_key(self) -> Secret | None:
        """Return the given key; None for Jina's key of the environment, which the scorer reads."""
        return None if self.api_key == KEY_FROM_ENVIRONMENT else self.api_key

    def _read_key(self) -> str | None:
        secret = self._given_key()
        if secret is None:
            return None
        key: str | None = secret.resolve_value()
        # With None the scorer would read Jina's key from the environment, which is not the key
        # that was given for this service.
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
        """Return the limits of a run; None, but not 0, stands for the component's setting."""
        if score_threshold is None:
            score_threshold = self.score_threshold
        return (
            check_top_k(self.top_k if top_k is None else top_k),
            check_threshold(score_threshold, "score_threshold"),
        )

    def _read(self, documents: list[Document]) -> tuple[list[int], list[Document], list[str]]:
        """Return the documents to rank: positions in `documents`, documents, and texts."""
        found = read_documents(documents)
        return list(found), list(found.values()), [self._text(one) for one in found.values()]

    def _text(self, document: Document) -> str:
        fields = (document.meta.get(name) for name in self.meta_fields_to_embed)
        parts = [str(value) for value in fields if value is not None]
        return self.embedding_separator.join([*parts, document.content or ""])


def _name_document(places: list[int], argument: str) -> str:
    """Convert the name of a deduplicated document to that of the caller's document."""
    found = re.fullmatch(r"documents\[(\d+)\]", argument)
    return argument if found is None else f"documents[{places[int(found[1])]}]"
