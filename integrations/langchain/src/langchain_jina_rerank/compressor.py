"""`JinaRerank`: a `BaseDocumentCompressor` over the core `Reranker`."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
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

from jina_rerank import ConfigurationError, InputError, RankedDocument, Ranking, Reranker
from jina_rerank.plugin import (
    KEY_VARIABLES,
    Backend,
    DialectName,
    Dtype,
    LongDocuments,
    build_reranker,
    check_candidates,
    check_installed,
    plain_number,
    refuse_settings,
)

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
"""Settings of langchain-community's JinaRerank that have another name here, or none."""
_DECIDE_THE_RERANKER = {*_MODEL_SETTINGS, "api_key", "reranker"}


# Strict fields take Python's own numbers only, and JSON knows no others.
_PLAIN = BeforeValidator(plain_number)


class _Request(TypedDict):
    """Input of a `JinaRerank` run, as a trace shows it."""

    query: str
    documents: Sequence[Document]


class _Answer(TypedDict):
    """Output of a `JinaRerank` run, as a trace shows it."""

    documents: list[Document]
    model: str
    usage: dict[str, int | None]
    degraded: str | None
    unscored: list[int]


class JinaRerank(BaseDocumentCompressor):
    """Puts the retrieved documents that answer the query first.

    Use it alone, or as the `base_compressor` of a `ContextualCompressionRetriever`. Building one
    is cheap; the model is loaded by the first call or by `warm_up`, once for everything in the
    process that uses the same one, and nothing is sent to a service before the first call. An
    instance never changes, so threads and event loops may share it;
    `model_copy(update={"top_n": 3})` gives one with other settings.

    Attributes:
        model: None for the embedded model (offline, no key); a hub id or a folder, such as
            `"jinaai/jina-reranker-v1-turbo-en"`; or another name of a model, such as
            `"cross-encoder:NAME"` or `"remote:MODEL@URL"`. With `backend="remote"`, the service's
            name for it; None is jina-reranker-v3.5.
        top_n: How many documents to keep, at least 1; None, or more than there are, keeps all.
        threshold: Keep only scores of at least this much; None keeps every score.
        metadata_fields: The metadata to score with the text: the values of these keys are put
            before `page_content`, in this order, each on a line of its own. Documents that lack
            a key, or have None there, go without. Empty scores `page_content` alone.
        backend: `"local"` reads `model` as said there, `"remote"` asks a `/v1/rerank` service for
            it.
        api_key: The key of the remote service. Left out, it is the environment's JINA_API_KEY or
            JINAAI_API_KEY, and is sent to a service with the dialect `"jina"` alone.
            Never shown or dumped.
        base_url: The address of the service, with or without the path of the endpoint; None is
            the hosted one. This and the next three only where a service is asked.
        dialect: What the service speaks: `"jina"`, `"cohere"` (version 2), `"voyage"`,
            `"tei"` or `"sagemaker"`.
        timeout: The deadline of a whole call in seconds: every request, retry and wait.
        max_retries: How often a request is sent again after a failure that may pass.
        dtype: What to compute in: `"float32"`, `"bfloat16"`, or `"auto"` for the faster of the
            two on this machine. This and the next four only for models on this machine.
        device: `"auto"` is the first CUDA device if there is one, otherwise the CPU; or any name
            that torch knows.
        max_length: Longest pair of query and document in tokens, at least 16.
        long_documents: For a document that does not fit: `"truncate"` reads its beginning,
            `"chunk"` reads all of it and takes its best part's score, `"error"` refuses.
        revision: A branch, tag or commit of a model on the hub.
        reranker: A `Reranker` built by hand, to use any scorer or to share one. The settings of
            the model must then be left at their defaults, and it is yours to close.

    Raises:
        ConfigurationError: Settings do not go together, the model's are out of range, or a package
            is missing that it needs.
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
        # A value that failed may be a key in the wrong place.
        hide_input_in_errors=True,
    )

    model: str | Path | None = None
    top_n: Annotated[int | None, _PLAIN] = Field(default=None, ge=1, strict=True)
    threshold: Annotated[float | None, _PLAIN] = Field(
        default=None, strict=True, allow_inf_nan=False
    )
    metadata_fields: tuple[str, ...] = ()
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
    reranker: Reranker | None = None

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
    ) -> list[Document]:
        """The documents most relevant to the query, best first.

        Traced as a run named `JinaRerank`, whose output also tells the model, the usage,
        whether the answer is degraded, and which documents nothing has scored.

        Args:
            documents: The candidates; they are not changed. None at all gives an empty list,
                no model is loaded and no service asked.
            query: The question; not blank.
            callbacks: The caller's callbacks, so that the run becomes a child of its own.

        Returns:
            Copies of the documents kept, their ids and metadata included, with the score in
            `metadata["relevance_score"]`. Equal scores keep the order of `documents`.
            `metadata["relevance_truncated_tokens"]` is there if part of the text was not read,
            and `metadata["relevance_degraded"]` says why, if the answer is second best; a
            document that nothing has scored then has `metadata["relevance_unscored"]`.

        Raises:
            InputError: The query is blank, all documents are, or a text is not usable.
            ModelLoadError: The model cannot be loaded.
            ScoringError: A score came out as NaN, or the process was forked.
            ServiceError: As one of its kinds, for each way in which a service can fail.
        """
        candidates = _check_documents(documents)
        if not candidates:
            return []
        answer = self._run.invoke(
            {"query": query, "documents": candidates}, config={"callbacks": callbacks}
        )
        return answer["documents"]

    async def acompress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,
    ) -> list[Document]:
        """`compress_documents` without blocking the event loop; cancelling it stops the work."""
        candidates = _check_documents(documents)
        if not candidates:
            return []
        answer = await self._run.ainvoke(
            {"query": query, "documents": candidates}, config={"callbacks": callbacks}
        )
        return answer["documents"]

    def warm_up(self) -> None:
        """Load the model now instead of at the first call; nothing is sent. Idempotent.

        Raises:
            ConfigurationError: An extra is missing, the device cannot be used, or this is closed.
            ModelLoadError: The model cannot be loaded.
        """
        self._lease.reranker.warm_up()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self._lease.reranker.awarm_up()

    def close(self) -> None:
        """Let go of the model or the connections. Idempotent.

        They are closed when the copies have let go of them too; `reranker`, if given, is yours.
        """
        if self.reranker is None and (unheld := self._lease.let_go()) is not None:
            unheld.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        if self.reranker is None and (unheld := self._lease.let_go()) is not None:
            await unheld.aclose()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some settings changed.

        It shares the loaded model or the connections, unless a setting of the model is among
        `update`; closing one of the two leaves them to the other.

        Args:
            update: The settings to change. Unlike pydantic's own copy, this one checks them.
            deep: Whether to copy deeply; of use only with `reranker`.

        Raises:
            ConfigurationError: As for a new `JinaRerank`.
            AuthenticationError: Likewise.
            pydantic.ValidationError: Likewise.
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
        # A pickle goes to files and to other machines, where a key has no business.
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

    # cached_property and not a private attribute of pydantic, for those count in ==.
    @cached_property
    def _lease(self) -> Lease:
        if self.reranker is not None:
            return Lease(check_installed(self.reranker))
        # A key of the environment is left for the scorer to find: no local model is refused for
        # it, and no service is sent it but one that speaks Jina's dialect.
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
    def _run(self) -> RunnableLambda[_Request, _Answer]:
        # A compressor is no Runnable and leaves no trace of its own. This one does, and puts up
        # with whatever callbacks are: None, a list, a manager, even an async one in sync code.
        return RunnableLambda(self._rerank, self._arerank, name="JinaRerank")

    def _rerank(self, request: _Request) -> _Answer:
        ranking = self._lease.reranker.rank(
            request["query"],
            [self._scored_text(document) for document in request["documents"]],
            top_n=self.top_n,
            threshold=self.threshold,
        )
        return _answer(request["documents"], ranking)

    async def _arerank(self, request: _Request) -> _Answer:
        ranking = await self._lease.reranker.arank(
            request["query"],
            [self._scored_text(document) for document in request["documents"]],
            top_n=self.top_n,
            threshold=self.threshold,
        )
        return _answer(request["documents"], ranking)

    def _scored_text(self, document: Document) -> str:
        values = (document.metadata.get(name) for name in self.metadata_fields)
        present = [str(value) for value in values if value is not None]
        return "\n".join([*present, document.page_content])


def _check_documents(documents: Sequence[Document]) -> list[Document]:
    remedy = "a text becomes one by Document(page_content=text)"
    found = check_candidates(documents, Document, "documents", remedy)
    for i, document in enumerate(found):
        # Pydantic checks a field when a document is built and not when it is assigned.
        if not isinstance(document.metadata, Mapping):
            kind = type(document.metadata).__name__
            raise InputError(f"documents[{i}]", f"must have a dict as metadata, not {kind}")
        if not isinstance(document.page_content, str):
            kind = type(document.page_content).__name__
            raise InputError(f"documents[{i}]", f"must have a string as page_content, not {kind}")
    return found


def _answer(documents: Sequence[Document], ranking: Ranking) -> _Answer:
    unscored = frozenset(ranking.unscored)
    return {
        "documents": [
            _scored(documents[hit.index], hit, ranking.degraded, unscored) for hit in ranking
        ],
        "model": ranking.model,
        "usage": asdict(ranking.usage),
        "degraded": ranking.degraded,
        "unscored": list(ranking.unscored),
    }


def _scored(
    document: Document, hit: RankedDocument, degraded: str | None, unscored: Collection[int]
) -> Document:
    verdict = {
        "relevance_score": hit.score,
        "relevance_truncated_tokens": hit.truncated_tokens or None,
        "relevance_degraded": degraded,
        "relevance_unscored": hit.index in unscored or None,
    }
    # What an earlier reranker said of the document must not pass for what this one says.
    metadata = {key: value for key, value in document.metadata.items() if key not in verdict}
    metadata |= {key: value for key, value in verdict.items() if value is not None}
    return document.model_copy(update={"metadata": metadata})
