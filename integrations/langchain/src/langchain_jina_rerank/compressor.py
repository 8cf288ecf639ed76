"""`JinaRerank`: a `BaseDocumentCompressor` over the core `Reranker`."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Self, TypedDict

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableLambda
from langchain_core.utils import secret_from_env
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_serializer,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from jina_rerank import ConfigurationError, Reranker
from jina_rerank.plugin import (
    KEY_VARIABLES,
    Backend,
    DialectName,
    Dtype,
    LongDocuments,
    build_reranker,
    check_field_names,
    check_installed,
    check_query,
    plain_number,
    refuse_assignment,
    refuse_settings,
)

from ._documents import Answer, answer, check_documents, scored_texts
from ._lease import Lease

_MODEL_SETTINGS = (
    "model",
    "backend",
    "base_url",
    "dialect",
    "timeout",
    "max_retries",
    "dtype",
    "device",
    "max_length",
    "long_documents",
    "revision",
)
_OFFICIAL_SETTINGS = {
    "jina_api_key": 'write api_key=, with backend="remote"',
    "session": "connections are kept and reused without it; leave it out",
    "user_agent": (
        'leave it out; to send it, reranker=Reranker(RemoteScorer(headers={"user-agent": "…"}))'
    ),
}
"""Settings of langchain-community's JinaRerank that are renamed or missing here, with a remedy."""
_DECIDE_THE_RERANKER = {*_MODEL_SETTINGS, "api_key", "reranker"}

# Strict fields and JSON accept only Python's numbers, not numpy's.
_PLAIN = BeforeValidator(plain_number)
_FIELD_NAMES = BeforeValidator(partial(check_field_names, argument="metadata_fields"))


class _Request(TypedDict):
    """Input of a `JinaRerank` run, as a trace shows it."""

    query: str
    documents: Sequence[Document]


class JinaRerank(BaseDocumentCompressor):
    """Puts the retrieved documents that answer the query first.

    Use it alone, or as the `base_compressor` of a `ContextualCompressionRetriever`. Creating one
    is cheap: the model is loaded by the first call or by `warm_up`, once for all users of the same
    model in the process, and nothing is sent to a service before the first call. An instance never
    changes, so threads and event loops may share it; `model_copy(update={"top_n": 3})` returns one
    with other settings.

    Attributes:
        model: None for the embedded model (offline, no key); a hub id or a folder, such as
            `"jinaai/jina-reranker-v1-turbo-en"`; or another name of a model, such as
            `"cross-encoder:NAME"` or `"remote:MODEL@URL"`. With `backend="remote"`, the service's
            name of the model; None for jina-reranker-v3.5.
        top_n: Number of documents to keep, at least 1; None, or more than there are, keeps all.
        threshold: Minimum score of documents to keep; None keeps every score.
        metadata_fields: Keys of the metadata to score with the text: their values are put before
            `page_content`, in this order, each on a separate line. Missing keys and values of None
            are left out. If empty, `page_content` alone is scored.
        backend: `"local"` for a model as described at `model`, `"remote"` for a model of a
            `/v1/rerank` service.
        api_key: Key of the remote service. By default the environment's: JINA_API_KEY, then
            JINAAI_API_KEY, with the dialect `"jina"`, and VOYAGE_API_KEY with `"voyage"`. Never
            shown or dumped.
        base_url: Address of the service, with or without the path of the endpoint; None for the
            hosted service. This and the next three settings are only for services.
        dialect: API of the service: `"jina"`, `"cohere"` (version 2), `"voyage"`, `"tei"` or
            `"sagemaker"`.
        timeout: Deadline of a whole call in seconds, including retries and waits.
        max_retries: Maximum number of retries after a temporary failure.
        dtype: Data type: `"auto"`, `"float32"`, `"bfloat16"` or `"int8"` (on a CPU with VNNI); auto
            is bfloat16 where the processor is faster with it, otherwise float32. This and the next
            four settings are only for models on this machine.
        device: `"auto"` for the first CUDA device if there is one, otherwise the CPU; or any
            device name of torch.
        max_length: Maximum tokens of a pair of query and document, at least 16.
        long_documents: Treatment of documents that are too long: `"truncate"` reads the beginning,
            `"chunk"` reads all of it and takes the score of the best part, `"error"` refuses.
        revision: A branch, tag or commit of a model on the hub.
        reranker: A `Reranker` to use any scorer or to share one. All settings of the model must
            then have their defaults, and the caller has to close the reranker.

    Raises:
        ConfigurationError: Settings conflict, a setting of the model is out of range,
            `metadata_fields` is no list of strings, or a package that the model needs is missing.
        AuthenticationError: There is no key for the hosted service.
        pydantic.ValidationError: A value has the wrong type, `top_n` is below 1, `threshold` is
            not a finite number, or there is no such setting.

    Example:
        ```python
        compressor = JinaRerank(top_n=3)
        retriever = ContextualCompressionRetriever(
            base_compressor=compressor,
            base_retriever=vector_store.as_retriever(search_kwargs={"k": 50}),
        )
        retriever.invoke("How should I store coffee beans?")
        ```
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        # An invalid value may be a misplaced key.
        hide_input_in_errors=True,
    )

    model: str | Path | None = None
    top_n: Annotated[int | None, _PLAIN] = Field(default=None, ge=1, strict=True)
    threshold: Annotated[float | None, _PLAIN] = Field(
        default=None, strict=True, allow_inf_nan=False
    )
    metadata_fields: Annotated[tuple[str, ...], _FIELD_NAMES] = ()
    backend: Backend = "local"
    api_key: SecretStr | None = Field(
        default_factory=secret_from_env(list(KEY_VARIABLES), default=None),
        exclude=True,
        repr=False,
    )
    base_url: str | None = None
    dialect: DialectName = "jina"
    timeout: Annotated[float, _PLAIN] = Field(default=30.0, strict=True)
    max_retries: Annotated[int, _PLAIN] = Field(default=2, strict=True)
    dtype: Dtype = "auto"
    device: str = "auto"
    max_length: Annotated[int, _PLAIN] = 8192
    long_documents: LongDocuments = "truncate"
    revision: str | None = None
    reranker: SkipJsonSchema[Reranker | None] = None

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
    ) -> list[Document]:
        """Return the documents most relevant to the query, best first.

        The call is traced as a run named `JinaRerank`. The run's output also has the model, the
        usage, the reason of a degraded answer, and the indices of unscored documents.

        Args:
            documents: The candidates; they are not changed. For an empty list the result is empty,
                without loading a model or sending a request.
            query: The question; not blank.
            callbacks: The caller's callbacks, so that the run becomes a child of the caller's run.

        Returns:
            Copies of the kept documents, with their ids and metadata, and the score in
            `metadata["relevance_score"]`. Equal scores keep the order of `documents`.
            `metadata["relevance_truncated_tokens"]` is set if part of the text was not read, and
            `metadata["relevance_degraded"]`, with the reason, if the answer is degraded. A document
            without a score then has `metadata["relevance_unscored"]`.

        Raises:
            InputError: The query is blank, all documents are blank, or a text cannot be used.
            ModelLoadError: The model cannot be loaded.
            ScoringError: A score is NaN, or the process was forked.
            ServiceError: The service failed; a subclass for each kind of failure.
        """
        candidates = check_documents(documents)
        if not candidates:
            check_query(query)  # as the core does
            return []
        output = self._run.invoke(
            {"query": query, "documents": candidates}, config={"callbacks": callbacks}
        )
        return output["documents"]

    async def acompress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
    ) -> list[Document]:
        """Run `compress_documents` without blocking the event loop; cancelling stops the work."""
        candidates = check_documents(documents)
        if not candidates:
            check_query(query)  # as the core does
            return []
        output = await self._run.ainvoke(
            {"query": query, "documents": candidates}, config={"callbacks": callbacks}
        )
        return output["documents"]

    def warm_up(self) -> None:
        """Load the model now instead of at the first call; nothing is sent. Idempotent.

        Raises:
            ConfigurationError: An extra is missing, the device cannot be used, or the compressor is
                closed.
            ModelLoadError: The model cannot be loaded.
        """
        self._lease.reranker.warm_up()

    async def awarm_up(self) -> None:
        """Run `warm_up` without blocking the event loop."""
        await self._lease.reranker.awarm_up()

    def close(self) -> None:
        """Release the model or the connections. Idempotent.

        They are closed when all copies have released them; a given `reranker` is not closed.
        """
        if self.reranker is None and (unheld := self._lease.let_go()) is not None:
            unheld.close()

    async def aclose(self) -> None:
        """Run `close` without blocking the event loop."""
        if self.reranker is None and (unheld := self._lease.let_go()) is not None:
            await unheld.aclose()

    def __setattr__(self, name: str, value: object) -> None:
        # Pydantic's error would quote the value, which may be a key. Error trackers read the locals
        # of frames that raise.
        del value
        refuse_assignment(name)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some settings changed.

        The copy shares the loaded model or the connections, unless `update` has a setting of the
        model. Closing the original or the copy does not affect the other.

        Args:
            update: The settings to change, which are validated, unlike in pydantic's method.
            deep: True for a deep copy; makes a difference only with `reranker`.

        Raises:
            ConfigurationError: As for a new `JinaRerank`.
            AuthenticationError: As for a new `JinaRerank`.
            pydantic.ValidationError: As for a new `JinaRerank`.
        """
        settings = {name: getattr(self, name) for name in self.model_fields_set}
        if deep:
            settings = copy.deepcopy(settings)
        changes = dict(update or {})
        shares = self._lease.is_open and not changes.keys() & _DECIDE_THE_RERANKER
        context = self._lease if shares and self.reranker is None else None
        return type(self).model_validate({**settings, **changes}, context=context)

    def __copy__(self) -> Self:
        return self.model_copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy(deep=True)

    def __getstate__(self) -> dict[Any, Any]:
        # A pickle may go to files and to other machines, so it must not contain the key.
        state = super().__getstate__()
        fields_set = state["__pydantic_fields_set__"] - {"api_key"}
        fields = {**state["__dict__"], "api_key": None}
        return {**state, "__dict__": fields, "__pydantic_fields_set__": fields_set}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        key = type(self).model_fields["api_key"].get_default(call_default_factory=True)
        super().__setstate__({**state, "__dict__": {**state["__dict__"], "api_key": key}})

    @model_validator(mode="before")
    @classmethod
    def _refuse_official_settings(cls, settings: object) -> object:
        if isinstance(settings, Mapping):
            given = [name for name in settings if name in _OFFICIAL_SETTINGS]
            if given:
                del settings  # error trackers read the locals of frames that raise
                refuse_settings(given, _OFFICIAL_SETTINGS)
        return settings

    @model_validator(mode="after")
    def _check_settings(self, info: ValidationInfo) -> Self:
        if self.reranker is not None:
            fields = type(self).model_fields
            changed = [n for n in _MODEL_SETTINGS if getattr(self, n) != fields[n].default]
            if self._given_api_key is not None:
                changed.append("api_key")
            if changed:
                raise ConfigurationError(
                    f"{', '.join(changed)} cannot be combined with reranker, which has a model "
                    "already; build that one with these settings, or leave it out"
                )
        if isinstance(info.context, Lease):  # this is a copy
            self.__dict__["_lease"] = info.context.share()
        _ = self._lease  # a bad setting fails here rather than at the first query
        return self

    @field_serializer("reranker", when_used="json-unless-none")
    def _refuse_json(self, reranker: Reranker) -> str:
        raise ConfigurationError(
            "a reranker built by hand cannot be written as JSON; configure JinaRerank by model "
            "and its other settings, or pickle it"
        )

    # Not a private attribute of pydantic, since these are compared by ==.
    @cached_property
    def _lease(self) -> Lease:
        if self.reranker is not None:
            return Lease(check_installed(self.reranker))
        # The scorer reads a key of the environment itself: then local models do not refuse it, and
        # only a service with Jina's dialect receives it.
        given = self._given_api_key
        return Lease(
            build_reranker(
                backend=self.backend,
                model=self.model,
                api_key=None if given is None else given.get_secret_value(),
                base_url=self.base_url,
                dialect=self.dialect,
                timeout=self.timeout,
                max_retries=self.max_retries,
                dtype=self.dtype,
                device=self.device,
                max_length=self.max_length,
                long_documents=self.long_documents,
                revision=self.revision,
            )
        )

    @property
    def _given_api_key(self) -> SecretStr | None:
        return self.api_key if "api_key" in self.model_fields_set else None

    @property
    def _run(self) -> RunnableLambda[_Request, Answer]:
        # A compressor is not a Runnable, so LangChain does not trace it. A RunnableLambda is
        # traced, and accepts all callbacks: None, a list, a manager, even an async one in sync
        # code.
        return RunnableLambda(self._rerank, self._arerank, name="JinaRerank")

    def _rerank(self, request: _Request) -> Answer:
        documents = request["documents"]
        texts = scored_texts(documents, self.metadata_fields)
        ranking = self._lease.reranker.rank(
            request["query"], texts, top_n=self.top_n, threshold=self.threshold
        )
        return answer(documents, ranking)

    async def _arerank(self, request: _Request) -> Answer:
        # Input and output are processed in a thread: thousands of documents would block the loop.
        documents = request["documents"]
        texts = await asyncio.to_thread(scored_texts, documents, self.metadata_fields)
        ranking = await self._lease.reranker.arank(
            request["query"], texts, top_n=self.top_n, threshold=self.threshold
        )
        return await asyncio.to_thread(answer, documents, ranking)
