"""`EmbeddingScorer`: the common base of bi-encoders and sparse encoders."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, get_args

from .._installed import check_installed, missing
from .._numbers import check_count
from .._quiet import quiet
from .._sentence_transformers import load_model
from ..embedded import find_other_source
from ._embedding_call import EmbeddingCall
from ._torch import import_torch
from .base import LongDocuments, OnScored, ScoreRequest, ScoreResponse, refuse_options
from .device import Dtype, choose_device, choose_dtype, refuse_int8
from .prompts import Prompts, prompts_of
from .shared_model import SharedModelScorer
from .text_encoder import Encoder, Text, VectorT, batches_of
from .weights import Weights, digest_weights
from .worker import worker_for

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel


class EmbeddingScorer(SharedModelScorer[Encoder[VectorT]]):
    """A scorer that embeds query and document separately, with sentence-transformers.

    A document is embedded once for many queries, as in an index, so its throughput in pairs cannot
    be compared with a reranker's. Remote code is never run.

    Args:
        model: See `BiEncoderScorer` for this and the other arguments.
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
        refuse_int8(dtype)
        source = find_other_source(model)
        super().__init__(
            fspath(source),
            source=source,
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
        """Wrap a loaded model for this scorer."""

    def check_installed(self) -> None:
        """Check now, and not at the first call, that the packages are installed; none is imported.

        Raises:
            ConfigurationError: A package that loading needs is missing.
        """
        packages = ("torch", "sentence_transformers")
        check_installed(packages, type(self).__name__, "cross-encoder")

    def score(
        self, requests: Sequence[ScoreRequest], on_scored: OnScored | None = None
    ) -> list[ScoreResponse]:
        """Score every document of every request; see `Scorer.score`.

        Raises:
            ScoringError: The model failed.
            InputError: A text is too long, and `long_documents` is `"error"`.
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
        """Embed texts, each with its prompt; texts that are too long are cut.

        Args:
            texts: The texts.
            is_query: Whether they are queries, and not passages.

        Raises:
            ScoringError: The model failed.
        """
        model = self._loading().result()
        wanted = [Text(text, is_query=is_query) for text in texts]
        vectors = model.known(wanted)
        missing_texts = [one for one in dict.fromkeys(wanted) if one not in vectors]
        for batch in batches_of(missing_texts):
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
    ) -> EmbeddingCall[VectorT]:
        refuse_options(requests, type(self).__name__, long_documents=get_args(LongDocuments))
        self._weights = model.weights
        return EmbeddingCall(model, requests, self._long_documents, on_scored)

    def _load(self) -> Encoder[VectorT]:
        assert self._source is not None
        # Identified before they are read, since they may be overwritten meanwhile.
        weights = self._find_weights()
        library, device = load_model(self._load_library, self._source, self._revision)
        # Imported only now: `_load_library` reports the packages that this import needs.
        from sentence_transformers.base.modules import Transformer

        from ._trained import check_all_loaded

        if isinstance(library[0], Transformer):
            check_all_loaded(library[0].model, self.model)
        if self._max_length is not None:
            limit = library.max_seq_length
            library.max_seq_length = min(self._max_length, limit or self._max_length)
        prompts = prompts_of(self.model, library.prompts, *self._prompts)
        # Identified afterwards if they had to be downloaded.
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
            raise missing(error.name, type(self).__name__, "cross-encoder") from error
