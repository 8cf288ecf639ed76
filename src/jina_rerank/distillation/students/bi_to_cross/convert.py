"""Conversion of a sentence encoder to a reranker that ranks about as the encoder's cosine does.

No training is needed. The encoder's layers are made one head wider (`layers`) and fitted to the
encoder's hidden states (`least_squares`); a layer on top compares the two texts (`scoring_layer`).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ....encoders import EncoderModel, JinaBert, JinaBertConfig
from ....encoders.alibi import Slopes
from ....encoders.tokenizer import TokenPair
from ....errors import ModelLoadError
from ...training.forward import TrainingBatch, hidden_states
from ...training.reference import ReferenceEncoder
from ..bert import BertEncoder, built, converting, read_tokenizer
from .layers import SMALLEST_HEAD, code_elements, encoder_layers
from .least_squares import fit_layers
from .scoring_layer import scoring_layer
from .statistics import statistics_of
from .vocabulary import vocabulary_of

WINDOW = 256
"""Reach of a head, in pairs of more than 512 tokens. Sentence encoders are trained on texts no
longer than that; attention over longer ones would take most of the time."""

FEWEST_HEADS = 3
"""Minimum number of heads of a model: one for each text, and one for the words."""

EXAMPLE_TOKENS = 128
"""Length in tokens to which examples are truncated for the encoder's statistics."""


def convert_to_cross_encoder(
    source: Path,
    examples: Sequence[tuple[str, str]],
    *,
    slopes: Slopes = "faint",
    intermediate_size: int | None = None,
    seed: int = 0,
) -> tuple[JinaBert, Tokenizer]:
    """Convert a sentence encoder to a reranker, to be trained.

    Args:
        source: The encoder's folder, as for `convert_bert`.
        examples: Queries and passages, about 1,500, for the encoder's statistics and to fit the
            layers to it, see `fit_layers`.
        slopes: Kind of ALiBi slopes of the reranker, see `alibi_slopes`.
        intermediate_size: Number of units of each feed-forward to keep, chosen by the error on the
            examples, see `pruned_least_squares`; None for all.
        seed: Seed of random weights.

    Returns:
        The model and the tokenizer, as `convert_bert` returns them. The model has one head per
        layer and one layer more than the encoder.

    Raises:
        ModelLoadError: As `convert_bert`, or as `cross_encoder_shape`.
    """
    bert = BertEncoder.read(source)
    config = cross_encoder_shape(bert, slopes, intermediate_size)
    tokenizer = read_tokenizer(source)
    reading = Tokenizer.from_str(tokenizer.to_str())
    reading.enable_truncation(EXAMPLE_TOKENS)
    texts = reading.encode_batch(
        [text for column in zip(*examples, strict=True) for text in column]
    )
    generator = torch.Generator().manual_seed(seed)
    with converting(source):
        statistics = statistics_of(source, texts)
        words = vocabulary_of(
            texts[len(examples) :],
            tokenizer,
            config.vocab_size,
            code_elements(config),
            generator,
        )
        everything = cross_encoder_shape(bert, slopes).intermediate_size
        layers = config.num_hidden_layers - 1
        body = JinaBert(replace(config, num_hidden_layers=layers, intermediate_size=everything))
        body.load_state_dict(
            encoder_layers(bert.weights, body.config, statistics, words, generator), strict=False
        )
        fit_layers(
            body,
            tokenizer,
            ReferenceEncoder(source, dtype=torch.float32),
            examples,
            units=None if config.intermediate_size == everything else config.intermediate_size,
            seed=seed,
        )
        state = {
            name: weight
            for name, weight in body.state_dict().items()
            if not name.startswith(("bert.pooler.", "classifier."))
        }
        queries, passages = statistics.means[: len(examples)], statistics.means[len(examples) :]
        model = built(config, state | scoring_layer(config, queries, passages, generator))
    remove_initial_state(model, tokenizer)
    return model, tokenizer


def cross_encoder_shape(
    bert: BertEncoder, slopes: Slopes = "faint", intermediate_size: int | None = None
) -> JinaBertConfig:
    """Compute the configuration of the reranker that `convert_to_cross_encoder` makes.

    Raises:
        ModelLoadError: The encoder has too few heads, too small heads or too few units, or its
            activation is not GELU.
    """
    config = bert.reranker(slopes, intermediate_size, wider=1, feed_forward="original")
    if (activation := bert.config["hidden_act"]) != "gelu":
        raise ModelLoadError(
            f"{bert.folder}: a bi_to_cross student needs an encoder with hidden_act 'gelu', "
            f"not {activation!r}"
        )
    size = config.hidden_size // config.num_attention_heads
    if size < SMALLEST_HEAD or config.num_attention_heads < FEWEST_HEADS:
        raise ModelLoadError(
            f"{bert.folder}: a bi_to_cross student needs an encoder with {FEWEST_HEADS - 1} "
            f"heads of {SMALLEST_HEAD} elements or more, not {config.num_attention_heads - 1} of "
            f"{size}"
        )
    with converting(bert.folder):
        positions = len(bert.weights["embeddings.position_embeddings.weight"])
    return replace(
        config,
        type_vocab_size=2,
        # One less than the encoder's: passages do not use the first position, which is [CLS]'s.
        text_positions=positions - 1,
        attention_window=WINDOW,
        num_hidden_layers=config.num_hidden_layers + 1,
    )


@torch.no_grad()
def remove_initial_state(model: EncoderModel, tokenizer: Tokenizer) -> None:
    """Subtract the initial state of [CLS], which is the same in every pair, in the last layer.

    The state that remains is what [CLS] gathers from the texts. Call it again when training has
    changed the layers below and not the last one.

    Args:
        model: A student; changed in place.
        tokenizer: The student's tokenizer.
    """
    start = array("i", [tokenizer.get_vocab()["[CLS]"]])
    alone = TrainingBatch.of([TokenPair(start, array("i", [0]))], model.classifier.weight.device)
    state = hidden_states(model, alone)[-2][0]
    last = model.bert.encoder.layer[-1]
    last.get_parameter("attention.output.dense.bias").copy_(-state)
