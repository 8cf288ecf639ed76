"""The layers of a BERT encoder, one head wider, which read the two texts of a pair separately.

A sentence encoder reads one text at a time. In a pair `[CLS] query [SEP] passage [SEP]` its heads
must attend within a text only, or what the encoder was trained for is lost. Other heads must attend
from one text to the other, or the pair gains nothing. Both need elements that the encoder's states
do not have, so every layer is made one head wider:

- Some of the new elements of a token's state, the channels, say which text it belongs to. In each
  head's query and key, the two least important elements are replaced by these channels. Their
  product is far below zero if query and key belong to different texts (`_screened`).
- The other new elements hold a code of the token's word (`_matching`). With it the new head of the
  first layer finds the same word in the other text, and writes the word's inverse document
  frequency into a channel.
- The new heads of the other layers have no output, so they are not computed (see `FusedEncoder`).

All other elements are the encoder's and keep their values: no new head writes to them, and the
gains of the layer norms compensate for the channels' part of the variance.

[CLS] attends to no other token, and all tokens attend to it, so before training its state is the
same in every pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from ....encoders import JinaBertConfig
from ....encoders.alibi import alibi_slopes
from ....encoders.quantization import dequantize_rows, quantize_rows
from .statistics import EncoderStatistics, LayerStatistics
from .vocabulary import Vocabulary

State = dict[str, Tensor]


class Channel(IntEnum):
    """The meaning of a state's new elements.

    ZERO is a reference level. Layer norms subtract the same mean from all channels, so a channel's
    value is its difference from ZERO.
    """

    QUERY = 0
    PASSAGE = 1
    START = 2
    IDF = 3
    FOUND = 4
    ZERO = 5


SMALLEST_HEAD = 8
"""Minimum elements of a head: the channels need so many, and replace two elements of each head."""

LEVEL = 0.5
"""The value of a channel that is set: about as large as other elements."""

APART = 14.0
"""The amount by which a head lowers the score of a token of the other text. A thousand such tokens
together have a thousandth of the weight of one token of the same text."""

CODE = 0.5
"""Absolute value of each element of a word's code."""

SAME, NONE = 40.0, 32.0
"""The scores of the same word in the other text, and of [CLS], which stands for no match. Another
word scores more than [CLS] only if at most two of its code's 26 elements differ, which is so for
five in a million pairs of words."""

SURE = 4.0
"""Weight of the START channel relative to others: layer norms make it smaller."""


def encoder_layers(
    bert: Mapping[str, Tensor],
    config: JinaBertConfig,
    statistics: EncoderStatistics,
    words: Vocabulary,
    generator: torch.Generator,
) -> State:
    """Build the embeddings and layers of the wider encoder.

    Args:
        bert: The encoder's weights.
        config: The wider encoder's configuration.
        statistics: Statistics of the encoder over texts.
        words: The vocabulary, with codes of `code_elements` elements.
        generator: Random generator of the new heads' weights.

    Returns:
        Part of a JinaBERT's state dict: all but layers on top, pooler and classifier.
    """
    state = _embeddings(bert, config, statistics.embeddings, words)
    for number, layer in enumerate(statistics.layers):
        state |= _layer(bert, config, number, layer, generator)
    return state | _matching(state, config, words.start)


def _embeddings(
    bert: Mapping[str, Tensor], config: JinaBertConfig, norm: float, words: Vocabulary
) -> State:
    places = config.text_positions
    words_given = bert["embeddings.word_embeddings.weight"]
    # The encoder reads every text as of type 0.
    type_given = bert["embeddings.token_type_embeddings.weight"][0]
    width = config.hidden_size
    hidden = words_given.shape[1]
    # The norm behind makes all lengths equal. This length makes an optimizer's steps small.
    given = (type_given + bert["embeddings.position_embeddings.weight"]) / norm
    rows, types = _wide(words_given / norm, width, 1), torch.zeros(2, places, width)
    # A passage has no [CLS]: its first token, behind [SEP], begins its run, as [CLS] does the
    # query's, so its position embeddings start one place later.
    for text, channel in enumerate((Channel.QUERY, Channel.PASSAGE)):
        types[text, :, :hidden] = given[text : text + places]
        types[text, :, hidden + channel] = LEVEL
    # The norm behind divides by the length of a word's embedding, so the new elements are scaled
    # with it. The position hardly changes the length.
    own, place = rows[:, :hidden], given[1:].mean(0)
    square = own.square().mean(1) + 2 / hidden * own @ place + given[1:].square().mean()
    length = square.clamp_min(0).sqrt()
    rows[:, hidden + len(Channel) :] = CODE * length[:, None] * words.codes
    rows[:, hidden + Channel.IDF] = LEVEL * length * words.idf
    # [CLS] has no code, so that it is not mistaken for a word.
    rows[words.start, hidden:] = 0.0
    rows[words.start, hidden + Channel.QUERY] = -LEVEL
    rows[words.start, hidden + Channel.START] = LEVEL
    types = types.flatten(0, 1)
    # All tokens attend to this row. If one element is far above the others, as in all-MiniLM-L6-v2,
    # 8-bit quantization of the row would change every state, so it is quantized from the start.
    for table, row in ((rows, words.start), (types, 0)):
        one = slice(row, row + 1)
        table[one] = dequantize_rows(*quantize_rows(table[one]), table.dtype)
    prefix = "bert.embeddings"
    gain, bias = _norm(bert, "embeddings.LayerNorm", config, 1.0, coded=True)
    return {
        f"{prefix}.word_embeddings.weight": rows,
        f"{prefix}.token_type_embeddings.weight": types,
        f"{prefix}.LayerNorm.weight": gain,
        f"{prefix}.LayerNorm.bias": bias,
    }


def _norm(
    bert: Mapping[str, Tensor],
    name: str,
    config: JinaBertConfig,
    norm: float,
    *,
    coded: bool = False,
) -> tuple[Tensor, Tensor]:
    """Compute a layer norm's gain and bias that keep the values of all elements.

    Args:
        bert: The encoder's weights.
        name: Name of the norm.
        config: The wider encoder's configuration.
        norm: Standard deviation of the elements in front of the encoder's norm.
        coded: True if the states hold words' codes.
    """
    gain, bias = bert[f"{name}.weight"], bert[f"{name}.bias"]
    hidden, width = len(gain), config.hidden_size
    # One channel tells the text, and half a channel's energy tells the word's rarity.
    new = 1.5 * LEVEL**2 + coded * code_elements(config) * CODE**2
    deviation = math.sqrt((hidden * norm**2 + new) / width)
    gains = torch.full((width - hidden,), deviation)
    return torch.cat([gain * deviation / norm, gains]), _wide(bias, width, 0)


def _layer(
    bert: Mapping[str, Tensor],
    config: JinaBertConfig,
    number: int,
    statistics: LayerStatistics,
    generator: torch.Generator,
) -> State:
    source, target = f"encoder.layer.{number}", f"bert.encoder.layer.{number}"
    width = config.hidden_size
    gain, bias = _norm(
        bert,
        f"{source}.attention.output.LayerNorm",
        config,
        statistics.attention_norm,
        coded=number == 0,
    )
    if number == 0:
        # The words are matched by now, so their codes are no longer needed.
        gain[-code_elements(config) :] = 0.0
    after_gain, after_bias = _norm(bert, f"{source}.output.LayerNorm", config, statistics.norm)
    into, out = f"{source}.intermediate.dense", f"{source}.output.dense"
    return {
        **_attention(bert, config, number, statistics.reach, generator),
        f"{target}.attention.output.LayerNorm.weight": gain,
        f"{target}.attention.output.LayerNorm.bias": bias,
        f"{target}.intermediate.dense.weight": _wide(bert[f"{into}.weight"], width, 1),
        f"{target}.intermediate.dense.bias": bert[f"{into}.bias"],
        f"{target}.output.dense.weight": _wide(bert[f"{out}.weight"], width, 0),
        f"{target}.output.dense.bias": _wide(bert[f"{out}.bias"], width, 0),
        f"{target}.output.LayerNorm.weight": after_gain,
        f"{target}.output.LayerNorm.bias": after_bias,
    }


def _attention(
    bert: Mapping[str, Tensor],
    config: JinaBertConfig,
    number: int,
    reach: Tensor,
    generator: torch.Generator,
) -> State:
    """Build attention with the encoder's heads, ordered by reach, and a new head without output."""
    source, target = f"encoder.layer.{number}.attention", f"bert.encoder.layer.{number}.attention"
    heads, width = config.num_attention_heads, config.hidden_size
    size = width // heads
    new = new_head(config, number)
    places = [place for place in heads_by_reach(config) if place != new]
    farthest = reach.argsort(descending=True).tolist()
    # Drawn for a head without output too, so that later random weights do not change.
    weights = {
        part: torch.empty(width, width).normal_(0, 0.02, generator=generator)
        for part in ("query", "key", "value")
    }
    biases = {part: torch.zeros(width) for part in weights}
    dense = torch.zeros(width, width)
    for head, place in zip(farthest, places, strict=True):
        own, to = slice(head * size, (head + 1) * size), slice(place * size, (place + 1) * size)
        query, key, value = (
            (bert[f"{source}.self.{part}.weight"][own], bert[f"{source}.self.{part}.bias"][own])
            for part in weights
        )
        (q_weight, q_bias), k_weight = _screened(*query, key[0], width)
        weights["query"][to], biases["query"][to] = q_weight, q_bias
        weights["key"][to] = k_weight
        weights["value"][to], biases["value"][to] = _wide(value[0], width, 1), value[1]
        dense[:, to] = _wide(bert[f"{source}.output.dense.weight"][:, own], width, 0)
    state = {}
    for part, weight in weights.items():
        state[f"{target}.self.{part}.weight"] = weight
        state[f"{target}.self.{part}.bias"] = biases[part]
    return state | {
        f"{target}.output.dense.weight": dense,
        f"{target}.output.dense.bias": _wide(bert[f"{source}.output.dense.bias"], width, 0),
    }


def _screened(
    query: Tensor, query_bias: Tensor, key: Tensor, width: int
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Replace the two least important elements of a head's query and key by the texts' channels.

    Only the product of query and key matters, so a singular value decomposition orders the elements
    by importance. The key's bias adds the same to all scores of a token and is left out.
    """
    size, hidden = query.shape
    q, r = torch.linalg.qr(torch.cat([query, query_bias[:, None]], dim=1).T)
    p, s = torch.linalg.qr(key.T)
    left, strength, right = torch.linalg.svd(r @ s.T)
    root = strength.sqrt()
    new_query = (q @ left * root).T
    new_key = (p @ right.T * root).T
    root_apart = math.sqrt(APART * math.sqrt(size)) / LEVEL
    weight, new_key = _wide(new_query[:, :hidden], width, 1), _wide(new_key, width, 1)
    bias = new_query[:, hidden].clone()
    weight[-2:], new_key[-2:], bias[-2:] = 0.0, 0.0, 0.0
    for at, own, other in (
        (-1, Channel.QUERY, Channel.PASSAGE),
        (-2, Channel.PASSAGE, Channel.QUERY),
    ):
        weight[at, hidden + own], weight[at, hidden + Channel.START] = root_apart, SURE * root_apart
        weight[at, hidden + Channel.ZERO] = -(1 + SURE) * root_apart
        new_key[at, hidden + other], new_key[at, hidden + Channel.ZERO] = -root_apart, root_apart
    return (weight, bias), new_key


def _matching(state: State, config: JinaBertConfig, start: int) -> State:
    """Build the first layer's new head, with which a token finds its word in the other text."""
    prefix, target = "bert.embeddings", "bert.encoder.layer.0.attention"
    width, heads = config.hidden_size, config.num_attention_heads
    size, count = width // heads, code_elements(config)
    hidden = width - size
    first = new_head(config, 0) * size
    parts = [f"{target}.self.{part}" for part in ("query", "key", "value")]
    query, key, value = (state[f"{part}.weight"].clone() for part in parts)
    query_bias = state[f"{parts[0]}.bias"].clone()
    for weight in (query, key, value):
        weight[first : first + size] = 0.0
    by_code = math.sqrt(SAME * math.sqrt(size) / count) / CODE
    for weight in (query, key):
        own = weight[first : first + count]
        own[:, hidden + len(Channel) :] = by_code * torch.eye(count)
        own[:, hidden + Channel.ZERO] = -by_code
    root = math.sqrt(2 * SAME * math.sqrt(size)) / LEVEL
    for at, channel in ((first + count, Channel.QUERY), (first + count + 1, Channel.PASSAGE)):
        query[at, hidden + channel], query[at, hidden + Channel.START] = root, root
        query[at, hidden + Channel.ZERO] = -2 * root
        key[at, hidden + channel], key[at, hidden + Channel.ZERO] = -root, root
    # [CLS] is the same in every pair, so its channel's value can be computed exactly.
    words = state[f"{prefix}.word_embeddings.weight"]
    types = state[f"{prefix}.token_type_embeddings.weight"]
    gain, bias = state[f"{prefix}.LayerNorm.weight"], state[f"{prefix}.LayerNorm.bias"]
    first_token = F.layer_norm(words[start] + types[0], (width,), gain, bias)
    held = float(first_token[hidden + Channel.START] - first_token[hidden + Channel.ZERO])
    none = NONE * math.sqrt(size) / held
    query_bias[first + size - 1] = 1.0
    key[first + size - 1, hidden + Channel.START] = none
    key[first + size - 1, hidden + Channel.ZERO] = -none
    value[first, hidden + Channel.IDF], value[first, hidden + Channel.ZERO] = 1.0, -1.0
    dense = state[f"{target}.output.dense.weight"].clone()
    dense[hidden + Channel.FOUND, first] = 1.0
    return {
        f"{parts[0]}.weight": query,
        f"{parts[1]}.weight": key,
        f"{parts[2]}.weight": value,
        f"{parts[0]}.bias": query_bias,
        f"{target}.output.dense.weight": dense,
    }


def code_elements(config: JinaBertConfig) -> int:
    """Number of elements of a word's code: all new elements but the channels.

    Args:
        config: The wider encoder's configuration.
    """
    return config.hidden_size // config.num_attention_heads - len(Channel)


def new_head(config: JinaBertConfig, number: int) -> int:
    """Position of a layer's new head.

    In the first layer it is the head with the farthest reach, since it has to find words at any
    distance. In the others it is the head with the nearest reach, since steep slopes would disturb
    the encoder's heads.
    """
    return heads_by_reach(config)[0 if number == 0 else -1]


def heads_by_reach(config: JinaBertConfig) -> list[int]:
    """Positions of the heads, in order of their reach, the farthest first."""
    slopes = alibi_slopes(config.num_attention_heads, config.alibi_slopes)
    return sorted(range(len(slopes)), key=slopes.__getitem__)


def _wide(given: Tensor, width: int, dim: int) -> Tensor:
    """Pad a dimension with zeros to a width."""
    missing = width - given.shape[dim]
    before = [0, 0] * (given.ndim - 1 - dim)
    return F.pad(given, (*before, 0, missing))
