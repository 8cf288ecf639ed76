"""`CrossEncoderScorer`: any other sequence-classification reranker, by sentence-transformers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from ..embedded import find_other_source
from ..errors import ConfigurationError, ModelLoadError, ScoringError
from ._pair_model import TOKENS_PER_BATCH, PairModel
from ._torch import import_torch
from .base import LongDocuments
from .device import Dtype, choose_device, choose_dtype
from .in_process import InProcessScorer
from .weights import Weights, find_weights

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from ..encoders import TokenPair


class CrossEncoderScorer(InProcessScorer):
    """Scores with ms-marco-MiniLM, bge-reranker, mxbai-rerank v1 and others of their kind.

    Behaves as `LocalScorer` does: the document is cut and never the query, what was cut is
    reported, the score is the sigmoid of the logit, the event loop is never blocked. Needs
    sentence-transformers. Remote code is never run.

    Args:
        model: A folder or a hub id, of a model with one output and a fast tokenizer.
        dtype: As for `LocalScorer`.
        device: As for `LocalScorer`.
        max_length: As for `LocalScorer`; the model's own limit, often 512, applies.
        long_documents: As for `LocalScorer`.
        revision: A branch, tag or commit on the hub.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    def __init__(
        self,
        model: str | PathLike[str],
        *,
        dtype: Dtype = "auto",
        device: str = "auto",
        max_length: int = 8192,
        long_documents: LongDocuments = "truncate",
        revision: str | None = None,
    ) -> None:
        super().__init__(
            fspath(model),
            source=find_other_source(model),
            revision=revision,
            dtype=dtype,
            device=device,
            max_length=max_length,
            long_documents=long_documents,
        )

    def __repr__(self) -> str:
        return f"CrossEncoderScorer({self.model!r}, dtype={self._dtype!r}, device={self._device!r})"

    def _key(self) -> Hashable:
        return (CrossEncoderScorer, self._source_key(), self._dtype, self._device)

    def _load(self) -> PairModel:
        try:
            import_torch()
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise ConfigurationError(
                "other cross-encoders need sentence-transformers, which is not installed: "
                'pip install "jina-rerank[cross-encoder]"'
            ) from error
        device = choose_device(self._device)
        # Before they are read: weights that are written over meanwhile must not pass for these.
        weights = find_weights(self.model, self._revision)
        try:
            encoder = CrossEncoder(
                self.model,
                device=device,
                revision=self._revision,
                trust_remote_code=False,
                model_kwargs={"dtype": choose_dtype(self._dtype, device)},
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelLoadError(f"{self.model}: cannot be loaded: {error}") from error
        # After, if they had to be downloaded.
        weights = weights or find_weights(self.model, self._revision)
        return _CrossEncoderPairs(encoder, self.model, device, weights)


class _CrossEncoderPairs:
    """A CrossEncoder as the engine sees it: its tokenizer's own rules, our batches."""

    def __init__(self, encoder: CrossEncoder, name: str, device: str, weights: Weights) -> None:
        from tokenizers import Tokenizer

        from ..encoders import PairTokenizer

        model = encoder.model
        architectures = getattr(getattr(model, "config", None), "architectures", None) or [""]
        # Without this a checkpoint that has no head gets a random one, and only a warning.
        if model is None or not architectures[0].endswith("ForSequenceClassification"):
            raise ModelLoadError(f"{name}: is {architectures[0] or 'unknown'}, not a reranker")
        if encoder.num_labels != 1:
            raise ModelLoadError(f"{name}: has {encoder.num_labels} outputs; a reranker has one")
        tokenizer = encoder.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelLoadError(f"{name}: has no fast tokenizer")
        # A copy of our own: transformers sets truncation and padding on its own at each call.
        self.tokenizer = PairTokenizer(Tokenizer.from_str(backend.to_str()))
        self.max_length = min(int(tokenizer.model_max_length), _positions(encoder))
        self.device = device
        self.weights = weights
        self.batch_tokens = TOKENS_PER_BATCH
        self._model = model
        self._pad = int(tokenizer.pad_token_id or 0)
        self._has_types = "token_type_ids" in tokenizer.model_input_names

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        import torch

        longest = max(len(pair) for pair in pairs)
        ids = torch.full((len(pairs), longest), self._pad)
        types = torch.zeros_like(ids)
        mask = torch.zeros_like(ids)
        for row, pair in enumerate(pairs):
            ids[row, : len(pair)] = torch.frombuffer(pair.input_ids, dtype=torch.int32)
            types[row, : len(pair)] = torch.frombuffer(pair.token_type_ids, dtype=torch.int32)
            mask[row, : len(pair)] = 1
        features = {"input_ids": ids, "attention_mask": mask}
        if self._has_types:
            features["token_type_ids"] = types
        try:
            with torch.inference_mode():
                on_device = {name: tensor.to(self.device) for name, tensor in features.items()}
                logits = self._model(**on_device).logits.float().squeeze(-1)
            return [float(logit) for logit in logits.tolist()]
        except RuntimeError as error:
            raise ScoringError(f"the model failed on {ids.numel():,} tokens: {error}") from error


def _positions(encoder: CrossEncoder) -> int:
    """How many positions the model has a vector for.

    The RoBERTa family starts counting after the padding id, so two of its 514 are unused.
    """
    model = encoder.model
    assert model is not None
    positions = int(getattr(model.config, "max_position_embeddings", 0)) or 2**31
    embeddings = getattr(model.base_model, "embeddings", None)
    offset = getattr(embeddings, "padding_idx", None)
    return positions if offset is None else positions - int(offset) - 1
