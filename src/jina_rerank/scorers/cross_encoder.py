"""`CrossEncoderScorer`: any other sequence-classification reranker, by sentence-transformers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from .._sentence_transformers import load_model
from ..embedded import find_other_source
from ..errors import ModelLoadError, ScoringError
from ._pair_model import TOKENS_PER_BATCH, PairModel
from ._torch import import_torch
from .base import LongDocuments
from .device import Dtype, choose_device, choose_dtype
from .in_process import InProcessScorer
from .installed import check_installed, missing
from .weights import Weights, find_weights

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder
    from transformers import PreTrainedModel

    from ..encoders import TokenPair

OTHERS = "CrossEncoderScorer"
INSTALL_CROSS_ENCODER = 'pip install "jina-rerank[cross-encoder]"'


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

    def check_installed(self) -> None:
        """Say now, and not at the first call, if a package is missing; none is imported.

        Raises:
            ConfigurationError: One that loading needs is not installed.
        """
        check_installed(("torch", "sentence_transformers"), OTHERS, INSTALL_CROSS_ENCODER)

    def _load(self) -> PairModel:
        # Before they are read: weights that are written over meanwhile must not pass for these.
        weights = find_weights(self.model, self._revision)
        assert self._source is not None
        encoder, device = load_model(self._load_encoder, self._source, self._revision)
        # After, if they had to be downloaded.
        weights = weights or find_weights(self.model, self._revision)
        return _CrossEncoderPairs(encoder, self.model, device, weights)

    def _load_encoder(self, name: str, offline: bool) -> tuple[CrossEncoder, str]:
        try:
            import_torch()
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise missing(error.name, OTHERS, INSTALL_CROSS_ENCODER) from error
        device = choose_device(self._device)
        encoder = CrossEncoder(
            name,
            device=device,
            revision=self._revision,
            trust_remote_code=False,
            local_files_only=offline,
            model_kwargs={"dtype": choose_dtype(self._dtype, device)},
        )
        return encoder, device


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
        _compute_head_in_float32(model)
        self._pad = _padding_id(encoder)
        self._has_types = "token_type_ids" in tokenizer.model_input_names

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        if self._pad is not None:
            return self._run(pairs, self._pad)
        # Such a model takes the last token of a row for the end of its text, padded or not, and
        # refuses more than one row.
        return [logit for pair in pairs for logit in self._run([pair], 0)]

    def _run(self, pairs: Sequence[TokenPair], pad: int) -> list[float]:
        import torch

        longest = max(len(pair) for pair in pairs)
        ids = torch.full((len(pairs), longest), pad)
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
        except (RuntimeError, ValueError, IndexError) as error:
            raise ScoringError(f"the model failed on {ids.numel():,} tokens: {error}") from error


def _compute_head_in_float32(model: PreTrainedModel) -> None:
    """Make what follows the encoder's layers compute in float32, whatever their dtype.

    In bfloat16 different documents would tie. Poolers stand within the encoder, other heads beside
    it.
    """
    import torch

    encoder = model.base_model
    pooler = getattr(encoder, "pooler", None)
    within = set(encoder.modules()) - set(() if pooler is None else pooler.modules())
    for module in model.modules():
        if module not in within and next(module.parameters(recurse=False), None) is not None:
            module.float()
            module.register_forward_pre_hook(
                lambda _, given: tuple(
                    value.float() if isinstance(value, torch.Tensor) else value for value in given
                )
            )


def _padding_id(encoder: CrossEncoder) -> int | None:
    """The id that the model takes for padding, or None if it knows none.

    The model's own and not the tokenizer's: by it a decoder tells where a text ends.
    """
    model = encoder.model
    assert model is not None
    config = model.config.get_text_config()
    pad = getattr(config, "pad_token_id", None)
    # Some say -1 for none, which is no row of the embeddings.
    return int(pad) if pad is not None and 0 <= pad < config.vocab_size else None


def _positions(encoder: CrossEncoder) -> int:
    """Number of positions that the model has a vector for.

    The RoBERTa family starts counting after the padding id, so two of its 514 are unused.
    """
    model = encoder.model
    assert model is not None
    positions = int(getattr(model.config, "max_position_embeddings", 0)) or 2**31
    embeddings = getattr(model.base_model, "embeddings", None)
    offset = getattr(embeddings, "padding_idx", None)
    return positions if offset is None else positions - int(offset) - 1
