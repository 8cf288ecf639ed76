"""A model of sentence-transformers as a `PairModel`: its own modules, our batches."""

from __future__ import annotations

from collections.abc import Sequence, Set
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from tokenizers import Tokenizer

from ..encoders.families.settings import length_setting, unusual_settings
from ..encoders.tokenizer import PairTokenizer
from ..errors import ModelLoadError, ScoringError
from ._float32 import score_in_float32
from ._pair_model import TOKENS_PER_BATCH, PairReader
from ._rendered import RenderedPairs, preprocess
from ._trained import check_all_loaded
from .base import ModelFacts
from .weights import Weights

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder
    from transformers import PreTrainedModel

    from ..encoders import TokenPair

TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""Names of the features that are built for each batch."""

GENERATIVE = ("text-generation", "any-to-any")
"""Tasks whose score is read at the last token, so that rows are padded before their texts."""


class CrossEncoderPairs:
    """A CrossEncoder as a `PairModel`.

    Args:
        encoder: A model that `check_head` accepts.
        name: The model's name in messages.
        device: The device that holds it.
        weights: The weights it was loaded from.

    Raises:
        ModelLoadError: It has no fast tokenizer, or its template cannot carry a pair.
    """

    def __init__(self, encoder: CrossEncoder, name: str, device: str, weights: Weights) -> None:
        transformer = encoder[0]
        assert isinstance(transformer, Transformer)
        tokenizer = transformer.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if tokenizer is None or backend is None:
            raise ModelLoadError(f"{name}: has no fast tokenizer")
        # A copy: transformers sets truncation and padding on its tokenizer at each call.
        own = Tokenizer.from_str(backend.to_str())
        try:
            self.tokenizer: PairReader = (
                RenderedPairs(encoder, own) if _renders(encoder) else PairTokenizer(own)
            )
            features = preprocess(encoder, [("a", "b")])
        except Exception as error:  # a template may raise anything
            raise ModelLoadError(f"{name}: {error}") from error
        self.max_length = min(_limits(transformer, int(tokenizer.model_max_length)))
        self.device = device
        self.weights = weights
        dtype = str(transformer.model.dtype).removeprefix("torch.")
        self.facts = ModelFacts(self.max_length, dtype)
        self.batch_tokens = TOKENS_PER_BATCH
        self._encoder = encoder.eval()
        score_in_float32(encoder)
        self._constant = {name: value for name, value in features.items() if name not in TOKENS}
        self._pad = _padding_id(transformer.model)
        self._has_types = "token_type_ids" in tokenizer.model_input_names
        self._pads_left = transformer.transformer_task in GENERATIVE
        self._counts = "position_ids" in signature(transformer.model.forward).parameters

    def logits(self, pairs: Sequence[TokenPair]) -> list[float]:
        """Compute the score of each pair before the activation, in order."""
        if self._pad is not None:
            return self._run(pairs, self._pad)
        # A model without a padding id takes the last token of a row for the end of its text, even
        # if it is padding, and refuses more than one row.
        return [logit for pair in pairs for logit in self._run([pair], 0)]

    def _run(self, pairs: Sequence[TokenPair], pad: int) -> list[float]:
        longest = max(len(pair) for pair in pairs)
        ids = torch.full((len(pairs), longest), pad)
        types = torch.zeros_like(ids)
        mask = torch.zeros_like(ids)
        for row, pair in enumerate(pairs):
            start = longest - len(pair) if self._pads_left else 0
            own = slice(start, start + len(pair))
            ids[row, own] = torch.frombuffer(pair.input_ids, dtype=torch.int32)
            types[row, own] = torch.frombuffer(pair.token_type_ids, dtype=torch.int32)
            mask[row, own] = 1
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if self._has_types:
            features["token_type_ids"] = types
        if self._pads_left and self._counts:
            # Otherwise models with a table of positions would count the padding.
            features["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        try:
            with torch.inference_mode():
                on_device = {name: tensor.to(self.device) for name, tensor in features.items()}
                scores = self._encoder({**self._constant, **on_device})["scores"]
            return [float(score) for score in scores.float().view(len(pairs)).tolist()]
        except (RuntimeError, ValueError, IndexError) as error:
            raise ScoringError(f"the model failed on {ids.numel():,} tokens: {error}") from error


def _renders(encoder: CrossEncoder) -> bool:
    """Tell whether a pair is more than its texts in the tokenizer's template.

    It has a chat template, a prompt, or settings for the tokenizer that change its tokens.
    """
    transformer = encoder[0]
    assert isinstance(transformer, Transformer)
    return (
        "message" in encoder.modalities
        or bool(encoder.prompts.get(encoder.default_prompt_name or ""))
        or bool(unusual_settings(transformer.processing_kwargs))
    )


def check_head(encoder: CrossEncoder, name: str, stored: Set[str] | None) -> None:
    """Check that the scoring head and its encoder were trained, and that there is one output.

    For a checkpoint without a head, transformers makes a random one and only warns.

    Args:
        encoder: The loaded model.
        name: The model's name in messages.
        stored: The names of the checkpoint's tensors, or None where they are not known.

    Raises:
        ModelLoadError: A part was not trained, or the head has several outputs.
    """
    transformer, scoring = encoder[0], encoder[-1]
    if not isinstance(transformer, Transformer):
        raise ModelLoadError(f"{name}: begins with {type(transformer).__name__}, not a Transformer")
    named = (getattr(transformer.model.config, "architectures", None) or ["unknown"])[0]
    if isinstance(scoring, Transformer):
        has_head = named.endswith("ForSequenceClassification")
    elif isinstance(scoring, LogitScore):
        has_head = named.endswith("LMHeadModel") or not named.endswith("Model")
    elif isinstance(scoring, Dense) and scoring.module_output_name == "scores":
        has_head = True
    else:
        raise ModelLoadError(f"{name}: ends with {type(scoring).__name__}, which gives no score")
    if not has_head:
        raise ModelLoadError(f"{name}: is {named}, not a reranker")
    if encoder.num_labels != 1:
        raise ModelLoadError(f"{name}: has {encoder.num_labels} outputs; a reranker has one")
    positions = getattr(transformer.model.config, "position_embedding_type", None)
    computed = any("distance_embedding" in name for name, _ in transformer.model.named_parameters())
    if str(positions).startswith("relative_key") and not computed:
        raise ModelLoadError(
            f"{name}: position_embedding_type is {positions!r}, which this version of transformers "
            "ignores; install one before 5"
        )
    head = _head_of(transformer.model)
    if stored is not None and head and not head & stored:
        raise ModelLoadError(f"{name}: its weights lack {', '.join(sorted(head))}; not a reranker")
    check_all_loaded(transformer.model, name)


def _head_of(model: PreTrainedModel) -> set[str]:
    """List the parameters outside the encoder that are not tied to its parameters."""
    within = {id(parameter) for parameter in model.base_model.parameters()}
    return {name for name, own in model.named_parameters() if id(own) not in within}


def _padding_id(model: PreTrainedModel) -> int | None:
    """Get the model's padding id, or None if it has none.

    It is not the tokenizer's: a decoder finds the end of a text by the model's own id.
    """
    config = model.config.get_text_config()
    pad = getattr(config, "pad_token_id", None)
    # Some models have -1 for none, which is no row of the embeddings.
    return int(pad) if pad is not None and 0 <= pad < config.vocab_size else None


def _limits(transformer: Transformer, stated: int) -> list[int]:
    """List the limits on a pair's length, in tokens: of positions, of sentence-transformers.

    Its `processing_kwargs` go before the tokenizer's limit, which is `stated`.

    The RoBERTa family counts positions from behind the padding id, so two of its 514 are unused.
    """
    model, given = transformer.model, transformer.processing_kwargs
    config = model.config.get_text_config()
    positions = int(getattr(config, "max_position_embeddings", 0)) or 2**31
    offset = getattr(getattr(model.base_model, "embeddings", None), "padding_idx", None)
    own = length_setting(given) or stated
    chat = int(given.get("chat_template", {}).get("max_length") or own)
    return [positions if offset is None else positions - int(offset) - 1, own, chat]
