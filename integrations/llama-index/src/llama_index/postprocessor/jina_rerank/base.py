"""`JinaRerank`: a `jina_rerank.Reranker` as a LlamaIndex node postprocessor."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any, Self, Unpack

from llama_index.core.bridge.pydantic import (
    BaseModel,
    Field,
    PrivateAttr,
    SecretStr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from jina_rerank import ConfigurationError, Ranking, Reranker
from jina_rerank.plugin import (
    Backend,
    DialectName,
    Dtype,
    LongDocuments,
    build_reranker,
    check_installed,
    check_query,
    name_of_path,
    plain_number,
    refuse_assignment,
    refuse_settings,
    renamed_errors,
)

from ._settings import CHECKS, OFFICIAL_SETTINGS, OtherArguments
from .nodes import check_nodes, check_query_bundle, event_tags, name_node, reranked_nodes

dispatcher = get_dispatcher(__name__)


class JinaRerank(BaseNodePostprocessor):
    """Puts the nodes that answer the query first.

    Creating one is cheap and sends nothing. A local model is loaded at the first call or by
    `warm_up`, once for all rerankers in the process that use the same model. An instance may be
    shared between threads, event loops and query engines. Nodes are never changed: the results are
    new `RerankedNode` objects with the same nodes, best first, and equal scores keep the order of
    the input.

    `top_n`, `threshold` and `metadata_mode` may be assigned later, and are checked then too; the
    model's settings are fixed. A copy has a reranker of its own, unless it was built with one.

    Args:
        model: None for the embedded model (offline, no key); a hub id or a folder; or another name
            of a model, such as `"cross-encoder:NAME"` or `"remote:MODEL@URL"`. With
            `backend="remote"` the service's name for a model; None for the service's default,
            which is jina-reranker-v3.5 for Jina's service.
        top_n: Number of nodes to keep, at least 1; None, or more than there are, keeps all.
        threshold: Minimum score of nodes to keep; None keeps all.
        metadata_mode: Part of a node's metadata that the model reads with its text. The default is
            that of embedding models: all but `excluded_embed_metadata_keys`.
        backend: `"local"` for a model as described at `model`, `"remote"` for a model of a
            `/v1/rerank` service.
        api_key: Key of the service; this and the next four settings are only for services. None for
            the environment's: JINA_API_KEY, then JINAAI_API_KEY, with the dialect `"jina"`, and
            VOYAGE_API_KEY with `"voyage"`. Never part of `to_dict`, `repr` or a pickle.
        base_url: Address of the service, with or without `/v1` or `/v1/rerank`. None for the
            dialect's hosted service, if there is one.
        dialect: API of the service: `"jina"`, which most servers support, `"cohere"`, `"voyage"`,
            `"tei"` or `"sagemaker"`.
        timeout: Deadline of a whole call in seconds, including retries and waits.
        max_retries: Maximum number of retries after a temporary failure.
        dtype: Data type: `"auto"`, `"float32"`, `"bfloat16"` or `"int8"` (on a CPU with VNNI); auto
            is bfloat16 where the processor is faster with it, otherwise float32. This and the next
            four settings are only for models on this machine.
        device: `"auto"` for the first CUDA device if there is one, otherwise the CPU; or any
            device name of torch.
        max_length: Maximum tokens of a pair of query and text; the model's limit applies if it is
            lower.
        long_documents: Treatment of texts that are too long: `"truncate"` reads the beginning,
            `"chunk"` reads all of it in overlapping windows, `"error"` refuses it.
        revision: A branch, tag or commit on the hub.
        reranker: A `Reranker`, instead of all the model's settings above. It is shared, not owned:
            `close` does not close it.
        callback_manager: Manager of LlamaIndex's callbacks; a query engine replaces it.

    Raises:
        ConfigurationError: Settings are out of range or conflict, or a package that the model needs
            is missing.
        AuthenticationError: There is no key for a hosted service, or it is malformed.
        InputError: `top_n` or `threshold` is out of range.
    """

    model: str | None = Field(default=None, frozen=True)
    top_n: int | None = None
    threshold: float | None = None
    metadata_mode: MetadataMode = MetadataMode.EMBED
    backend: Backend = Field(default="local", frozen=True)
    api_key: SecretStr | None = Field(default=None, frozen=True, exclude=True, repr=False)
    base_url: str | None = Field(default=None, frozen=True)
    dialect: DialectName = Field(default="jina", frozen=True)
    timeout: float = Field(default=30.0, frozen=True)
    max_retries: int = Field(default=2, frozen=True)
    dtype: Dtype = Field(default="auto", frozen=True)
    device: str = Field(default="auto", frozen=True)
    max_length: int = Field(default=8192, frozen=True)
    long_documents: LongDocuments = Field(default="truncate", frozen=True)
    revision: str | None = Field(default=None, frozen=True)

    _reranker: Reranker = PrivateAttr()
    _owns_reranker: bool = PrivateAttr()

    def __init__(
        self,
        # The order of the official integration, whose arguments may be positional.
        top_n: int | None = None,
        model: str | PathLike[str] | None = None,
        base_url: str | None = None,
        api_key: str | SecretStr | None = None,
        *,
        threshold: float | None = None,
        metadata_mode: MetadataMode = MetadataMode.EMBED,
        backend: Backend = "local",
        dialect: DialectName = "jina",
        timeout: float = 30.0,
        max_retries: int = 2,
        dtype: Dtype = "auto",
        device: str = "auto",
        max_length: int = 8192,
        long_documents: LongDocuments = "truncate",
        revision: str | None = None,
        reranker: Reranker | None = None,
        callback_manager: CallbackManager | None = None,
        **others: Unpack[OtherArguments],
    ) -> None:
        # Replaces the argument at once, since error trackers read the locals of frames that raise.
        api_key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        if others.get("class_name") == self.class_name():
            del others["class_name"]
        refuse_settings(list(others), OFFICIAL_SETTINGS)
        settings = {
            "model": name_of_path(model),
            "backend": backend,
            "api_key": api_key,
            "base_url": base_url,
            "dialect": dialect,
            # The settings are written as JSON, which accepts only Python's numbers.
            "timeout": plain_number(timeout),
            "max_retries": plain_number(max_retries),
            "dtype": dtype,
            "device": device,
            "max_length": plain_number(max_length),
            "long_documents": long_documents,
            "revision": revision,
        }
        owns_reranker = reranker is None
        if reranker is None:
            reranker = build_reranker(
                model=model,
                backend=backend,
                api_key=api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key,
                base_url=base_url,
                dialect=dialect,
                timeout=timeout,
                max_retries=max_retries,
                dtype=dtype,
                device=device,
                max_length=max_length,
                long_documents=long_documents,
                revision=revision,
            )
        else:
            _check_alone(reranker, settings)
        super().__init__(callback_manager=callback_manager or CallbackManager(), **settings)
        self.top_n = top_n
        self.threshold = threshold
        self.metadata_mode = metadata_mode
        self._reranker = reranker
        self._owns_reranker = owns_reranker

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized forms and in schemas."""
        return "JinaRerank"

    def warm_up(self) -> None:
        """Load a local model now, not at the first call; nothing is sent to a service. Idempotent.

        Raises:
            ModelLoadError: The model cannot be loaded.
        """
        self._reranker.warm_up()

    async def awarm_up(self) -> None:
        """Run `warm_up` without blocking the event loop."""
        await self._reranker.awarm_up()

    def close(self) -> None:
        """Release the model or the connections, but not a given `reranker`. Idempotent."""
        if self._owns_reranker:
            self._reranker.close()

    async def aclose(self) -> None:
        """Run `close` without blocking the event loop."""
        if self._owns_reranker:
            await self._reranker.aclose()

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as in pydantic
        """Assign a setting of calls, which is checked.

        Raises:
            ConfigurationError: The setting is the model's, or it is not a metadata mode.
            InputError: `top_n` or `threshold` is out of range.
        """
        field = type(self).model_fields.get(name)
        if field is not None and field.frozen:
            # Pydantic's error would quote the value, which may be a key. Error trackers read the
            # locals of frames that raise.
            del value
            refuse_assignment(name)
        check = CHECKS.get(name)
        super().__setattr__(name, value if check is None else check(value))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some settings changed.

        The copy has a reranker of its own, which shares the loaded model; a given `reranker` is
        shared as it is. Closing the original or the copy does not affect the other.

        Args:
            update: The settings to change, which are checked, unlike in pydantic's method.
            deep: True to copy a given `reranker` too.

        Raises:
            ConfigurationError: As for a new `JinaRerank`.
            AuthenticationError: As for a new `JinaRerank`.
            InputError: As for a new `JinaRerank`.
        """
        settings = {name: getattr(self, name) for name in type(self).model_fields}
        if not self._owns_reranker:
            settings["reranker"] = copy.deepcopy(self._reranker) if deep else self._reranker
        return type(self)(**{**settings, **(update or {})})

    def __copy__(self) -> Self:
        return self.model_copy()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy(deep=True)

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - as in BaseComponent
        """Return every setting but the key and the callback manager, for `from_dict`.

        Raises:
            ConfigurationError: The instance has a `reranker`, which cannot be serialized.
        """
        self._check_serializable()
        return super().to_dict(**kwargs)

    @model_serializer(mode="wrap")
    def custom_model_dump(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Return the same for `model_dump`, in which pydantic wraps the error."""
        self._check_serializable()
        return super().custom_model_dump(handler, info)

    def _check_serializable(self) -> None:
        if not self._owns_reranker:
            raise ConfigurationError(
                "a JinaRerank built with reranker= cannot be serialized; "
                "build it from model= and its other settings, or pickle it"
            )

    def __getstate__(self) -> dict[Any, Any]:
        # BaseComponent's method would silently drop all values that cannot be pickled, and restore
        # by calling __init__ with the fields alone, which would lose a given reranker. Callback
        # handlers belong to their process, and the next engine sets its own. A pickle may go to
        # files and other machines, so it must not contain the key.
        state = BaseModel.__getstate__(self)
        fields = {**state["__dict__"], "callback_manager": CallbackManager(), "api_key": None}
        return {**state, "__dict__": fields}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        BaseModel.__setstate__(self, state)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = check_query_bundle(query_bundle)
        nodes = check_nodes(nodes)
        if not nodes:
            check_query(query.query_str)  # as the core does
            return []
        with self._traced(nodes, query) as finish, renamed_errors(name_node):
            ranking = self._reranker.rank(
                query.query_str, self._texts(nodes), top_n=self.top_n, threshold=self.threshold
            )
            return finish(ranking, reranked_nodes(nodes, ranking))

    # LlamaIndex opens spans around abstract methods only, and this method is not abstract. Without
    # this span, the events would belong to the caller's span.
    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = check_query_bundle(query_bundle)
        nodes = check_nodes(nodes)
        if not nodes:
            check_query(query.query_str)  # as the core does
            return []
        with self._traced(nodes, query) as finish, renamed_errors(name_node):
            # Input and output are processed in a thread: thousands of nodes would block the loop.
            texts = await asyncio.to_thread(self._texts, nodes)
            ranking = await self._reranker.arank(
                query.query_str, texts, top_n=self.top_n, threshold=self.threshold
            )
            return finish(ranking, await asyncio.to_thread(reranked_nodes, nodes, ranking))

    def _texts(self, nodes: list[NodeWithScore]) -> list[str]:
        return [node.node.get_content(metadata_mode=self.metadata_mode) for node in nodes]

    @contextmanager
    def _traced(
        self, nodes: list[NodeWithScore], query: QueryBundle
    ) -> Iterator[Callable[[Ranking, list[NodeWithScore]], list[NodeWithScore]]]:
        """Report to LlamaIndex's events and older callbacks; many tools read only one of them."""
        model = self._reranker.model
        top_n = self.top_n or len(nodes)  # the event takes no None
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=top_n, model_name=model))
        with self.callback_manager.event(
            CBEventType.RERANKING,
            payload={
                EventPayload.NODES: nodes,
                EventPayload.MODEL_NAME: model,
                EventPayload.QUERY_STR: query.query_str,
                EventPayload.TOP_K: top_n,
            },
        ) as event:

            def finish(ranking: Ranking, reranked: list[NodeWithScore]) -> list[NodeWithScore]:
                event.on_end(payload={EventPayload.NODES: reranked})
                dispatcher.event(ReRankEndEvent(nodes=reranked, tags=event_tags(ranking)))
                return reranked

            yield finish


def _check_alone(reranker: Reranker, settings: dict[str, Any]) -> None:
    if not isinstance(reranker, Reranker):
        raise ConfigurationError(
            f"reranker must be a jina_rerank.Reranker, not {type(reranker).__name__}"
        )
    fields = JinaRerank.model_fields
    changed = [name for name, value in settings.items() if value != fields[name].default]
    if changed:
        raise ConfigurationError(
            f"reranker= brings its own model; leave out {', '.join(changed)}, "
            "or give them to the Reranker"
        )
    check_installed(reranker)
