"""What bi-encoders and sparse encoders share: each text has a vector, and vectors are compared."""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._numbers import check_count
from .._quiet import quiet
from .._sentence_transformers import load_model
from ..embedded import find_other_source
from ..errors import InputError, ScoringError
from ..ranking import Usage
from ._torch import import_torch
from .base import LongDocuments, OnScored, Progress, ScoreRequest, ScoreResponse
from .device import Dtype, choose_device, choose_dtype
from .installed import check_installed, missing
from .prompts import Prompts, prompts_of
from .shared_model import SharedModelScorer
from .weights import Weights, digest_weights
from .worker import worker_for

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)

INSTALL_ENCODERS = 'pip install "jina-rerank[cross-encoder]"'

BATCH = 64
"""Texts that are embedded at a time."""

KEPT = 100_000
"""Vectors that are kept: 150 MB of them at 384 dimensions."""

WINDOW_WORDS = 180
"""Words of a window of a long document: about the 256 tokens that small encoders were trained for,
and so the vectors of longer windows say less."""

WINDOW_TOKENS = 254
"""Tokens that `WINDOW_WORDS` are about, special tokens left out; a model that reads fewer has
shorter windows."""

VectorT = TypeVar("VectorT")


class Encoder(ABC, Generic[VectorT]):
    """A loaded model that embeds a text once, as long as its vector is kept.

    Args:
        library: Of sentence-transformers.
        name: What errors call it.
        prompts: What it reads before each text.
        device: Where it runs.
        weights: Which weights it was loaded from.
        kept: How many vectors are kept from one call to the next; the oldest go first.
    """

    def __init__(
        self,
        library: BaseModel,
        name: str,
        prompts: Prompts,
        device: str,
        weights: Weights,
        *,
        kept: int = KEPT,
    ) -> None:
        self.device = device
        self.weights = weights
        self.name = name
        self._library = library
        self._prompts = prompts
        self._kept = kept
        self._vectors: dict[Text, VectorT] = {}
        self._lock = threading.Lock()
        self._tokenizer = _tokenizer_of(library)

    @abstractmethod
    def compare(self, query: VectorT, passages: Sequence[VectorT]) -> list[float]:
        """The scores of passages, by their vectors and the query's."""

    @abstractmethod
    def _encode(self, texts: list[str], prompt: str, *, is_query: bool) -> list[VectorT]:
        """The vectors of some texts, in order."""

    def known(self, texts: Sequence[Text]) -> dict[Text, VectorT]:
        """The vectors that are kept of these texts."""
        with self._lock:
            return {text: self._vectors[text] for text in texts if text in self._vectors}

    def embed(self, texts: Sequence[Text]) -> dict[Text, VectorT]:
        """The vectors of a batch of queries, or of a batch of passages; on the owner thread.

        Raises:
            ScoringError: The model failed.
        """
        is_query = texts[0].is_query
        prompt = self._prompts.query if is_query else self._prompts.passage
        try:
            vectors = self._encode([one.text for one in texts], prompt, is_query=is_query)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ScoringError(f"{self.name} failed on {len(texts)} texts: {error}") from error
        found = dict(zip(texts, vectors, strict=True))
        with self._lock:
            self._vectors.update(found)
            for text in list(self._vectors)[: max(0, len(self._vectors) - self._kept)]:
                del self._vectors[text]
        return found

    def lengths(self, texts: Sequence[str]) -> list[int] | None:
        """How many tokens each text has, without special ones; None if that cannot be told."""
        if self._tokenizer is None:
            return None
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(one.ids) for one in encoded]

    def room(self, *, is_query: bool) -> int | None:
        """How many tokens of a text are read beside its prompt; None if there is no limit."""
        limit = self._library.max_seq_length
        if limit is None or self._tokenizer is None:
            return None
        prompt = self._prompts.query if is_query else self._prompts.passage
        around = len(self._tokenizer.encode(prompt).ids)
        return max(1, int(limit) - around)


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is embedded: queries and passages have prompts of their own."""

    text: str
    is_query: bool


class EmbeddingScorer(SharedModelScorer[Encoder[VectorT]]):
    """A scorer that embeds query and document apart, by sentence-transformers.

    A document is embedded once for many queries, as an index would do it, so its pairs a second
    are not those of a reranker. Remote code is never run.

    Args:
        model: See `BiEncoderScorer` for this and the others.
        query_prompt: As `model`.
        passage_prompt: As `model`.
        dtype: As `model`.
        device: As `model`.
        max_length: As `model`.
        long_documents: As `model`.
        revision: As `model`.

    Raises:
        ConfigurationError: As for `BiEncoderScorer`.
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        dtype: Dtype = "float32",
        device: str = "auto",
        max_length: int | None = None,
        long_documents: LongDocuments = "truncate",
        revision: str | None = None,
    ) -> None:
        super().__init__(
            fspath(model),
            source=find_other_source(model),
            revision=revision,
            dtype=dtype,
            device=device,
            long_documents=long_documents,
        )
        self._prompts = (query_prompt, passage_prompt)
        self._max_length = None if max_length is None else check_count(max_length, "max_length")

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.model!r}, dtype={self._dtype!r}, device={self._device!r})"
        )

    @abstractmethod
    def _open(self, name: str, options: Mapping[str, Any]) -> BaseModel:
        """Load a model of sentence-transformers, from a folder or by a hub id."""

    @abstractmethod
    def _encoder(
        self, library: BaseModel, prompts: Prompts, device: str, weights: Weights
    ) -> Encoder[VectorT]:
        """A loaded model as this scorer uses it."""

    def check_installed(self) -> None:
        """Say now, and not at the first call, if a package is missing; none is imported.

        Raises:
            ConfigurationError: One that loading needs is not installed.
        """
        packages = ("torch", "sentence_transformers")
        check_installed(packages, type(self).__name__, INSTALL_ENCODERS)

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request; see `Scorer.score`.

        Raises:
            ScoringError: The model failed.
            InputError: A text is too long, where `long_documents` says so.
        """
        call = self._call(self._loading().result(), requests, on_scored)
        for future in call.batches():
            try:
                call.add(future.result())
            except BaseException:
                future.cancel()  # Ctrl-C here must stop the work there
                raise
        return call.responses()

    async def ascore(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """`score` without blocking the event loop; cancelling it stops the work."""
        model = await self._aloaded()
        call = await asyncio.to_thread(self._call, model, requests, on_scored)
        for future in call.batches():
            call.add(await asyncio.wrap_future(future))
        return await asyncio.to_thread(call.responses)

    def embed(self, texts: Sequence[str], *, is_query: bool = False) -> list[VectorT]:
        """The vectors of some texts, each with its prompt; longer ones are cut.

        Args:
            texts: Any.
            is_query: Whether they are queries and no passages.

        Raises:
            ScoringError: The model failed.
        """
        model = self._loading().result()
        wanted = [Text(text, is_query=is_query) for text in texts]
        vectors = model.known(wanted)
        missing_texts = [one for one in dict.fromkeys(wanted) if one not in vectors]
        for batch in _batches(missing_texts):
            vectors |= worker_for(model.device).run(partial(model.embed, batch)).result()
        return [vectors[one] for one in wanted]

    def _settings(self) -> dict[str, object]:
        return {"prompts": self._prompts, "max_length": self._max_length}

    def _find_weights(self) -> Weights:
        assert self._source is not None
        return digest_weights(self._source, self._revision)

    def _key(self) -> Hashable:
        own = (self._prompts, self._max_length)
        return (type(self), self._source_key(), self._dtype, self._device, own)

    def _call(
        self,
        model: Encoder[VectorT],
        requests: Sequence[ScoreRequest],
        on_scored: OnScored | None,
    ) -> _Call[VectorT]:
        self._weights = model.weights
        return _Call(model, requests, self._long_documents, on_scored)

    def _load(self) -> Encoder[VectorT]:
        assert self._source is not None
        # Before they are read: weights that are written over meanwhile must not pass for these.
        weights = self._find_weights()
        library, device = load_model(self._load_library, self._source, self._revision)
        if self._max_length is not None:
            limit = library.max_seq_length
            library.max_seq_length = min(self._max_length, limit or self._max_length)
        prompts = prompts_of(self.model, library.prompts, *self._prompts)
        # After, if they had to be downloaded.
        return self._encoder(library, prompts, device, weights or self._find_weights())

    def _load_library(self, name: str, offline: bool) -> tuple[BaseModel, str]:
        try:
            import_torch()
            device = choose_device(self._device)
            options = {
                "device": device,
                "revision": self._revision,
                "trust_remote_code": False,
                "local_files_only": offline,
                "model_kwargs": {"dtype": choose_dtype(self._dtype, device)},
            }
            with quiet():
                return self._open(name, options), device
        except ImportError as error:
            raise missing(error.name, type(self).__name__, INSTALL_ENCODERS) from error


class _Call(Generic[VectorT]):
    """The texts of one call to a scorer, and their vectors as they come."""

    def __init__(
        self,
        model: Encoder[VectorT],
        requests: Sequence[ScoreRequest],
        long_documents: LongDocuments,
        on_scored: OnScored | None,
    ) -> None:
        self._model = model
        self._requests = requests
        self._on_scored = on_scored
        self._windows = _windows(model, requests, long_documents)
        self._lengths = _Lengths(model, requests, self._windows, long_documents)
        wanted = list(
            dict.fromkeys(
                [
                    *(Text(one.query, is_query=True) for one in requests),
                    *(window for windows in self._windows.values() for window in windows),
                ]
            )
        )
        self._vectors = model.known(wanted)
        self._missing = [text for text in wanted if text not in self._vectors]
        self._remaining = sum(map(_tokens_about, self._missing))
        self._computed = 0

    def batches(self) -> Iterator[Future[dict[Text, VectorT]]]:
        """Have a batch embedded each time the next one is asked for."""
        worker = worker_for(self._model.device)
        for batch in _batches(self._missing):
            yield worker.run(partial(self._model.embed, batch))

    def add(self, vectors: dict[Text, VectorT]) -> None:
        """Take the vectors of a batch."""
        self._vectors.update(vectors)
        tokens = sum(map(_tokens_about, vectors))
        self._computed += tokens
        self._remaining -= tokens
        if self._on_scored is not None:
            self._on_scored(Progress(self._computed, self._remaining))

    def responses(self) -> list[ScoreResponse]:
        """The answers, once all vectors are there."""
        return [self._response(one) for one in self._requests]

    def _response(self, request: ScoreRequest) -> ScoreResponse:
        windows = [self._windows[text] for text in request.documents]
        flat = [self._vectors[window] for own in windows for window in own]
        query = self._vectors[Text(request.query, is_query=True)]
        found = iter(self._model.compare(query, flat))
        scores = [max(next(found) for _ in own) for own in windows]
        return self._lengths.response(request, scores)


class _Lengths:
    """How many tokens the texts of a call have, and how many of them are read."""

    def __init__(
        self,
        model: Encoder[Any],
        requests: Sequence[ScoreRequest],
        windows: Mapping[str, Sequence[Text]],
        long_documents: LongDocuments,
    ) -> None:
        self._windows = windows
        self._rooms = {is_query: model.room(is_query=is_query) for is_query in (True, False)}
        texts = dict.fromkeys(
            [
                *(Text(one.query, is_query=True) for one in requests),
                *(window for own in windows.values() for window in own),
            ]
        )
        lengths = model.lengths([one.text for one in texts])
        self._lengths = None if lengths is None else dict(zip(texts, lengths, strict=True))
        for request in requests if long_documents == "error" else ():
            self._refuse_longer(request)

    def response(self, request: ScoreRequest, scores: Sequence[float]) -> ScoreResponse:
        """One request's answer, with what was cut where that is known."""
        if self._lengths is None:
            return ScoreResponse(scores, Usage(len(scores)))
        cut = [self._cut(text) for text in request.documents]
        whole = [
            sum(self._lengths[window] for window in self._windows[text])
            for text in request.documents
        ]
        truncated = sum(1 for tokens in cut if tokens)
        if truncated:
            logger.info("%d of %d documents were truncated", truncated, len(cut))
        query_cut = self._missed(Text(request.query, is_query=True))
        if query_cut:
            logger.warning("%squery: %d of its tokens are cut off", request.name, query_cut)
        return ScoreResponse(
            scores,
            Usage(len(scores), None, truncated, query_cut),
            tokens=[a - b for a, b in zip(whole, cut, strict=True)],
            truncated_tokens=cut,
        )

    def _cut(self, text: str) -> int:
        return sum(self._missed(window) for window in self._windows[text])

    def _missed(self, text: Text) -> int:
        room = self._rooms[text.is_query]
        return 0 if room is None or self._lengths is None else max(0, self._lengths[text] - room)

    def _refuse_longer(self, request: ScoreRequest) -> None:
        texts = [(f"documents[{d}]", text) for d, text in enumerate(request.documents)]
        for name, cut in [
            ("query", self._missed(Text(request.query, is_query=True))),
            *((name, self._cut(text)) for name, text in texts),
        ]:
            if cut:
                fix = (
                    "shorten it"
                    if name == "query"
                    else ('split it, or use long_documents="truncate" or "chunk"')
                )
                raise InputError(
                    f"{request.name}{name}", f"has {cut:,} tokens more than the model reads; {fix}"
                )


def _windows(
    model: Encoder[Any], requests: Sequence[ScoreRequest], long_documents: LongDocuments
) -> dict[str, list[Text]]:
    """By document, the texts that are embedded for it."""
    documents = dict.fromkeys(text for one in requests for text in one.documents)
    if long_documents != "chunk":
        return {text: [Text(text, is_query=False)] for text in documents}
    room = model.room(is_query=False)
    size = WINDOW_WORDS
    if room is not None and room < WINDOW_TOKENS:
        size = max(1, room * WINDOW_WORDS // WINDOW_TOKENS)
    return {text: [Text(part, is_query=False) for part in _parts(text, size)] for text in documents}


def _parts(text: str, size: int) -> Iterator[str]:
    words = text.split()
    for start in range(0, max(1, len(words)), size):
        yield " ".join(words[start : start + size])


def _batches(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Passages and then queries, neighbours of similar length: the longest decides what is padded.

    A model has another prompt for queries, so the two share no batch.
    """
    for is_query in (False, True):
        own = [text for text in texts if text.is_query == is_query]
        own.sort(key=lambda one: -len(one.text))
        for start in range(0, len(own), BATCH):
            yield own[start : start + BATCH]


def _tokens_about(text: Text) -> int:
    return len(text.text) // 4 + 1


def _tokenizer_of(library: BaseModel) -> Tokenizer | None:
    """A copy of the model's tokenizer, where it is a fast one that neither pads nor cuts."""
    from tokenizers import Tokenizer

    backend = getattr(getattr(library, "tokenizer", None), "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    copied: Tokenizer = Tokenizer.from_str(backend.to_str())
    copied.no_truncation()
    copied.no_padding()
    return copied
