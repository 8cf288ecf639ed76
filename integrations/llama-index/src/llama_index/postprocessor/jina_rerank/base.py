"""`JinaRerank`: a `jina_rerank.Reranker` as a LlamaIndex node postprocessor."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from os import PathLike
from typing import Any, NoReturn, TypedDict, Unpack

from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr, SecretStr
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from jina_rerank import ConfigurationError, InputError, Ranking, Reranker
from jina_rerank.plugin import (
    Backend,
    DialectName,
    Dtype,
    LongDocuments,
    build_reranker,
    check_candidates,
    check_installed,
    check_threshold,
    check_top_n,
    name_of_path,
    plain_number,
    refuse_settings,
    renamed_errors,
)

dispatcher = get_dispatcher(__name__)


class _OfficialSettings(TypedDict, total=False):
    """Settings of llama-index-postprocessor-jinaai-rerank that have another name here."""

    api_url: NoReturn


_OFFICIAL_SETTINGS = {
    "api_url": 'write base_url="https://…", backend="remote", as base_url may end with /v1/rerank'
}


class RerankedNode(NodeWithScore):
    """Result of `JinaRerank`: a node with its relevance, and what else is known of it.

    Attributes:
        node: The very node that came in.
        score: Its relevance to the query, higher is better; in (0, 1) for local models, and as
            a service gave it.
        retrieval_score: The score it came in with, that of the retriever as a rule. Reranking
            a second time leaves it alone.
        truncated_tokens: How many of the text's tokens were cut off and not read; None where
            a service does not tell it.
        degraded: None, or why this ranking is second best.
        unscored: Whether nothing has scored this node. Such nodes come last, in the order that
            came in, and their scores only say that order.
    """

    retrieval_score: float | None = None
    truncated_tokens: int | None = None
    degraded: str | None = None
    unscored: bool = False


class JinaRerank(BaseNodePostprocessor):
    """Puts the nodes that answer the query first.

    Building one is cheap and sends nothing. A local model is loaded at the first call or by
    `warm_up`, once for all rerankers in the process that use the same one. Safe to share
    between threads, event loops and query engines. Nodes are never changed: the results are new
    `RerankedNode` objects around the same nodes, best first, and equal scores keep the order
    that came in.

    `top_n`, `threshold` and `metadata_mode` may be assigned later; the model's settings are
    fixed.

    Args:
        model: None for the embedded model (offline, no key); a hub id or a folder; or another name
            of a model, such as `"cross-encoder:NAME"` or `"remote:MODEL@URL"`. With
            `backend="remote"` the service's name for a model; None is its default,
            jina-reranker-v3.5 at Jina's.
        top_n: How many nodes to keep, at least 1; None, or more than there are, keeps all.
        threshold: Keep only scores of at least this much; None keeps all.
        metadata_mode: Which of a node's metadata the model reads with its text. The default is
            what an embedding model would read: all but `excluded_embed_metadata_keys`.
        backend: `"local"` reads `model` as said there, `"remote"` asks a `/v1/rerank` service for
            it.
        api_key: The key; this and the next four only where a service is asked. None is
            JINA_API_KEY, then JINAAI_API_KEY, of the environment, with the dialect `"jina"`
            only. Never part of `to_dict`, `repr` or a pickle.
        base_url: Where the service is, with or without `/v1` or `/v1/rerank`. None is the
            dialect's hosted service, where there is one.
        dialect: How the service is spoken to: `"jina"`, which most servers speak, `"cohere"`,
            `"voyage"`, `"tei"` or `"sagemaker"`.
        timeout: The deadline of a whole call in seconds, with its retries and waits.
        max_retries: How often a request is sent again after a failure that may pass.
        dtype: `"auto"`, `"float32"` or `"bfloat16"`; auto is bfloat16 where the processor has
            units for it. This and the next four only for models on this machine.
        device: `"auto"` is the first CUDA device if there is one, otherwise the CPU; or any
            name that torch knows.
        max_length: Longest pair of query and text in tokens; the model's own limit applies if
            it is lower.
        long_documents: `"truncate"` reads the beginning of a text that does not fit, `"chunk"`
            all of it in overlapping windows, `"error"` refuses it.
        revision: A branch, tag or commit on the hub.
        reranker: A `Reranker` built by hand, instead of all the model's settings above. It is
            shared, not owned: `close` leaves it open.
        callback_manager: For LlamaIndex's callbacks; a query engine replaces it with its own.

    Raises:
        ConfigurationError: Settings are out of range or do not go together, or a package is missing
            that the model needs.
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
        # In the order of the official integration's, which may be given without their names.
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
        **official: Unpack[_OfficialSettings],
    ) -> None:
        # At once, and over the argument: error trackers read the locals of frames that raise.
        api_key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        refuse_settings(list(official), _OFFICIAL_SETTINGS)
        settings = {
            "model": name_of_path(model),
            "backend": backend,
            "api_key": api_key,
            "base_url": base_url,
            "dialect": dialect,
            # The settings are written as JSON, which takes Python's own numbers only.
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
        self.top_n = check_top_n(top_n)
        self.threshold = check_threshold(threshold)
        self.metadata_mode = _check_metadata_mode(metadata_mode)
        self._reranker = reranker
        self._owns_reranker = owns_reranker

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized forms and in schemas."""
        return "JinaRerank"

    def warm_up(self) -> None:
        """Load a local model now, not at the first call; nothing is sent to a service. Idempotent.

        Raises:
            ModelLoadError: It cannot be loaded.
        """
        self._reranker.warm_up()

    async def awarm_up(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self._reranker.awarm_up()

    def close(self) -> None:
        """Let go of the model or the connections, unless `reranker` came in. Idempotent."""
        if self._owns_reranker:
            self._reranker.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        if self._owns_reranker:
            await self._reranker.aclose()

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - as in BaseComponent
        """Every setting but the key and the callback manager, for `from_dict`.

        Raises:
            ConfigurationError: It was built around a `reranker`, which has no such form.
        """
        if not self._owns_reranker:
            raise ConfigurationError(
                "a JinaRerank built with reranker= cannot be serialized; "
                "build it from model= and its other settings, or pickle it"
            )
        return super().to_dict(**kwargs)

    def __getstate__(self) -> dict[Any, Any]:
        # BaseComponent's would drop, with no error, whatever cannot be pickled, and restore by
        # calling __init__ with the fields alone, which would forget a reranker passed in.
        # Callback handlers belong to the process they run in, and the next engine sets its own;
        # a key has no business in the files and other machines that a pickle goes to.
        state = BaseModel.__getstate__(self)
        fields = {**state["__dict__"], "callback_manager": CallbackManager(), "api_key": None}
        return {**state, "__dict__": fields}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        BaseModel.__setstate__(self, state)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _check_query_bundle(query_bundle)
        nodes = _check_nodes(nodes)
        if not nodes:
            return []
        with self._traced(nodes, query) as finish, renamed_errors(_name_node):
            ranking = self._reranker.rank(
                query.query_str, self._texts(nodes), top_n=self.top_n, threshold=self.threshold
            )
            return finish(ranking)

    # LlamaIndex opens a span around abstract methods by itself, and this one is not abstract:
    # without a span of its own the events would hang on whatever calls it.
    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _check_query_bundle(query_bundle)
        nodes = _check_nodes(nodes)
        if not nodes:
            return []
        with self._traced(nodes, query) as finish, renamed_errors(_name_node):
            ranking = await self._reranker.arank(
                query.query_str, self._texts(nodes), top_n=self.top_n, threshold=self.threshold
            )
            return finish(ranking)

    def _texts(self, nodes: list[NodeWithScore]) -> list[str]:
        return [node.node.get_content(metadata_mode=self.metadata_mode) for node in nodes]

    @contextmanager
    def _traced(
        self, nodes: list[NodeWithScore], query: QueryBundle
    ) -> Iterator[Callable[[Ranking], list[NodeWithScore]]]:
        """Report to LlamaIndex's events and to its older callbacks; many tools read only one."""
        model = self._reranker.model
        top_n = check_top_n(self.top_n) or len(nodes)  # the event takes no None
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

            def finish(ranking: Ranking) -> list[NodeWithScore]:
                reranked = _reranked(nodes, ranking)
                event.on_end(payload={EventPayload.NODES: reranked})
                dispatcher.event(ReRankEndEvent(nodes=reranked, tags=_tags(ranking)))
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


def _check_metadata_mode(mode: MetadataMode) -> MetadataMode:
    try:
        return MetadataMode(mode)  # from_json brings the value alone
    except ValueError:
        names = tuple(mode.value for mode in MetadataMode)
        raise ConfigurationError(f"metadata_mode must be one of {names}, not {mode!r}") from None


def _check_query_bundle(query_bundle: QueryBundle | None) -> QueryBundle:
    if query_bundle is None:
        raise InputError("query_bundle", "is missing; pass query_bundle=, or query_str=")
    return query_bundle


def _check_nodes(nodes: list[NodeWithScore]) -> list[NodeWithScore]:
    remedy = "a node becomes one by NodeWithScore(node=node)"
    return check_candidates(nodes, NodeWithScore, "nodes", remedy)


def _name_node(argument: str) -> str:
    return re.sub(r"^documents\b", "nodes", argument)


def _reranked(nodes: list[NodeWithScore], ranking: Ranking) -> list[NodeWithScore]:
    unscored = frozenset(ranking.unscored)
    return [
        RerankedNode(
            node=nodes[hit.index].node,
            score=hit.score,
            retrieval_score=_retrieval_score(nodes[hit.index]),
            truncated_tokens=hit.truncated_tokens,
            degraded=ranking.degraded,
            unscored=hit.index in unscored,
        )
        for hit in ranking
    ]


def _retrieval_score(node: NodeWithScore) -> float | None:
    return node.retrieval_score if isinstance(node, RerankedNode) else node.score


def _tags(ranking: Ranking) -> dict[str, Any]:
    return {
        "jina_rerank": {
            "model": ranking.model,
            "usage": asdict(ranking.usage),
            "degraded": ranking.degraded,
            "unscored": list(ranking.unscored),
        }
    }
