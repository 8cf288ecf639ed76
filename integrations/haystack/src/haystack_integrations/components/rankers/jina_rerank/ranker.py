"""`JinaRanker`: Haystack's documents in, the best of them out."""

import asyncio
import dataclasses
import inspect
from copy import deepcopy
from os import PathLike, fspath
from typing import Any, Self, TypedDict

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.tracing.tracer import tracer
from haystack.utils import ComponentDevice, Secret

from jina_rerank import ConfigurationError, Ranking, Reranker
from jina_rerank.plugin import (
    Backend,
    Dtype,
    LongDocuments,
    build_reranker,
    check_threshold,
    check_top_n,
)

KEY_FROM_ENVIRONMENT = Secret.from_env_var(["JINA_API_KEY", "JINAAI_API_KEY"], strict=False)


class RankerOutput(TypedDict):
    """What a run answers.

    Attributes:
        documents: Copies of the documents that remain, best first, with their new scores.
        meta: `"model"`, its name; `"usage"`, what the run cost, with the fields of
            `jina_rerank.Usage`; `"degraded"`, None or why the answer is second best.
    """

    documents: list[Document]
    meta: dict[str, Any]


@component
class JinaRanker:
    """Puts the documents that answer a query first.

    Building one is cheap. The model is loaded when the pipeline warms up or at the first run,
    once for all components in the process that use the same one. Safe to run from many threads
    and event loops at a time.

    Args:
        model: None for the embedded model (offline, no key); otherwise a local JinaBERT
            reranker, a hub id or a folder. With `backend="remote"`, a model of the service.
        top_k: How many documents to return, at least 1; None for all.
        score_threshold: Return only documents that score at least this much.
        meta_fields_to_embed: Metadata to put in front of a document's content before it is
            scored, in this order; fields that a document does not have are left out.
        embedding_separator: What goes between these fields and the content.
        backend: `"local"` runs the model in this process, `"remote"` asks a service.
        api_key: The service's key, read when warming up. With `backend="local"` the
            environment's key is ignored, and any other is refused.
        base_url: The service's address.
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
        ConfigurationError: Any other setting is out of range, or two do not go together.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        top_k: int | None = 10,
        score_threshold: float | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        backend: Backend = "local",
        api_key: Secret | None = KEY_FROM_ENVIRONMENT,
        base_url: str | None = None,
        device: ComponentDevice | None = None,
        dtype: Dtype = "auto",
        max_length: int = 8192,
        long_documents: LongDocuments = "truncate",
        revision: str | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        # YAML knows no paths.
        self.model = fspath(model) if isinstance(model, PathLike) else model
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
        self.device = device
        self.dtype = dtype
        self.max_length = max_length
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
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Load the model now instead of at the first run. Idempotent.

        Raises:
            ModelLoadError: The model cannot be loaded.
            ValueError: `api_key` is strict and its variable is not set.
        """
        self._open().warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self._open().awarm_up()

    def close(self) -> None:
        """Let go of the model; the next run loads it again. Idempotent.

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
            order in which they came. `meta`, with `model`, `usage` and `degraded`.

        Raises:
            ValueError: `top_k` is not above 0; or, as an `InputError` that names the
                argument, the query or the documents cannot be used.
            ModelLoadError: The model cannot be loaded.
            ScoringError: A score came out as NaN, or the process was forked.
        """
        top_k, score_threshold = self._limits(top_k, score_threshold)
        candidates, texts = self._read(documents)
        ranking = self._open().rank(query, texts, top_n=top_k, threshold=score_threshold)
        _tag_span(ranking, top_k)
        return _answer(candidates, ranking)

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
        """
        top_k, score_threshold = self._limits(top_k, score_threshold)
        # Both ends work in a thread: thousands of documents would hold up the loop.
        candidates, texts = await asyncio.to_thread(self._read, documents)
        ranking = await self._open().arank(query, texts, top_n=top_k, threshold=score_threshold)
        _tag_span(ranking, top_k)
        return await asyncio.to_thread(_answer, candidates, ranking)

    def _check_settings(self) -> None:
        """Refuse settings that do not go together, long before a model is loaded."""
        if self.api_key is not None and not isinstance(self.api_key, Secret):
            raise ConfigurationError(
                'api_key must be a Secret, such as Secret.from_env_var("JINA_API_KEY"), '
                f"not {type(self.api_key).__name__}"
            )
        if self.reranker is None:
            # Only whether a key was given matters yet: keys are read when warming up. One that
            # merely happens to be in the environment must not make a local model fail.
            is_given = self.api_key is not None and (
                self.backend == "remote" or self.api_key != KEY_FROM_ENVIRONMENT
            )
            self._build("a key" if is_given else None)
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

    def _build(self, api_key: str | None) -> Reranker:
        return build_reranker(
            backend=self.backend,
            model=self.model,
            api_key=api_key,
            base_url=self.base_url,
            dtype=self.dtype,
            device=_name_device(self.device),
            max_length=self.max_length,
            long_documents=self.long_documents,
            revision=self.revision,
        )

    def _open(self) -> Reranker:
        """What does the ranking, built now if need be, its model not loaded yet."""
        if self.reranker is not None:
            return self.reranker
        # Two threads may both build one, which costs nothing: they share the model.
        own = self._own
        if own is None:
            secret = self.api_key if self.backend == "remote" else None
            own = self._own = self._build(None if secret is None else secret.resolve_value())
        return own

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

    def _read(self, documents: list[Document]) -> tuple[list[Document], list[str]]:
        """The documents to rank and, in the same order, their texts."""
        candidates = _deduplicate(documents)
        return candidates, [self._text(document) for document in candidates]

    def _text(self, document: Document) -> str:
        fields = (document.meta.get(name) for name in self.meta_fields_to_embed)
        parts = [str(value) for value in fields if value is not None]
        return self.embedding_separator.join([*parts, document.content or ""])


def _check_top_k(top_k: int | None) -> int | None:
    # What every Haystack ranker says, word for word: code out there matches on it.
    if isinstance(top_k, int) and top_k <= 0:
        raise ValueError(f"top_k must be > 0, but got {top_k}")
    return check_top_n(top_k, "top_k")


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


def _deduplicate(documents: list[Document]) -> list[Document]:
    """Each id once, in the place where it came first, as the document that scored highest.

    Two retrievers that feed one ranker often find the same document.
    """
    kept: dict[str, Document] = {}
    for document in documents:
        rival = kept.get(document.id)
        if rival is None or _prior_score(document) > _prior_score(rival):
            kept[document.id] = document
    return list(kept.values())


def _prior_score(document: Document) -> float:
    return float("-inf") if document.score is None else document.score


def _answer(candidates: list[Document], ranking: Ranking) -> RankerOutput:
    documents = []
    for hit in ranking:
        document = candidates[hit.index]
        # replace() alone would leave one meta dictionary in two documents.
        documents.append(
            dataclasses.replace(document, score=hit.score, meta=deepcopy(document.meta))
        )
    return {
        "documents": documents,
        "meta": {
            "model": ranking.model,
            "usage": dataclasses.asdict(ranking.usage),
            "degraded": ranking.degraded,
        },
    }


def _tag_span(ranking: Ranking, top_k: int | None) -> None:
    span = tracer.current_span()
    if span is None:
        return
    tags = {
        "model": ranking.model,
        "top_k": top_k,
        "degraded": ranking.degraded,
        **{f"usage.{name}": count for name, count in dataclasses.asdict(ranking.usage).items()},
    }
    span.set_tags({f"jina_rerank.{k}": tag for k, tag in tags.items() if tag is not None})
