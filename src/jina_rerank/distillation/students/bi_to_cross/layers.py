"""The layers of a BERT encoder, one head wider, which read two texts of a pair each by itself.

An encoder of sentences reads a text by itself. In a pair `[CLS] query [SEP] passage [SEP]` each
head of it must look at its own text only, or what it was trained for is lost; and something else
must look from one text to the other, or nothing is gained. Both need elements that the encoder
does not have, so every layer is made one head wider:

- The new elements of a token's state, the channels, say which text it belongs to. Of each head's
  query and key the two elements that matter least make way for the channels' product, which is far
  below zero where query and key belong to different texts (`_screened`).
- The new head of the first layer finds in the other text the token's own word, by its code, which
  fills the other new elements (`_matching`). It writes the word's inverse document
  frequency into a channel.
- The new heads of the other layers look anywhere and write nothing, so they are not computed (see
  `FusedEncoder`).

What is not in the channels is the encoder's, and stays as it was: nothing is written to it, and
the layer norms' gains make up for the channels' part of the variance.

[CLS] sees nobody and is seen by all, so before training it is the same in every pair.
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

    ZERO says nothing. Layer norms take a mean away, from all channels the same, so what counts is
    by how much a channel is above this one.
    """

    QUERY = 0
    PASSAGE = 1
    START = 2
    IDF = 3
    FOUND = 4
    ZERO = 5


SMALLEST_HEAD = 8
"""Elements of a head: the channels fill as many, and two of each head make way for them."""

LEVEL = 0.5
"""The value of a channel where what it says is true: about as much as any other element."""

APART = 14.0
"""The amount by which a head scores a token of the other text lower. A thousand such tokens
together weigh a thousandth of one of the own text."""

CODE = 0.5
"""Absolute value of each element of a word's code."""

SAME, NONE = 40.0, 32.0
"""The score of the same word in the other text, and that of [CLS], which stands for none. Of 26
elements of a code all but two must be the same to come near it: of two words five in a million."""

SURE = 4.0
"""Weight of the channel of [CLS] beside others: layer norms make it smaller."""


def encoder_layers(
    bert: Mapping[str, Tensor],
    config: JinaBertConfig,
    statistics: EncoderStatistics,
    words: Vocabulary,
    generator: torch.Generator,
) -> State:
    """Embeddings and layers of the wider encoder.

    Args:
        bert: The encoder's weights.
        config: The wider one's.
        statistics: Statistics of the encoder over texts.
        words: With codes of as many elements as `code_elements` says.
        generator: Source of where new heads look.

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
    # The norm behind makes any length the same. This one makes an optimizer's steps small ones.
    given = (type_given + bert["embeddings.position_embeddings.weight"]) / norm
    rows, types = _wide(words_given / norm, width, 1), torch.zeros(2, places, width)
    # A passage's first token stands behind [SEP], which is no part of its run, where [CLS] would.
    for text, channel in enumerate((Channel.QUERY, Channel.PASSAGE)):
        types[text, :, :hidden] = given[text : text + places]
        types[text, :, hidden + channel] = LEVEL
    # What a word's own elements are not is made as long as they are, for the norm behind divides
    # by their length. Where it stands hardly changes that.
    own, place = rows[:, :hidden], given[1:].mean(0)
    square = own.square().mean(1) + 2 / hidden * own @ place + given[1:].square().mean()
    length = square.clamp_min(0).sqrt()
    rows[:, hidden + len(Channel) :] = CODE * length[:, None] * words.codes
    rows[:, hidden + Channel.IDF] = LEVEL * length * words.idf
    # [CLS] has no code: what it is found by is not to be anything like a word's.
    rows[words.start, hidden:] = 0.0
    rows[words.start, hidden + Channel.QUERY] = -LEVEL
    rows[words.start, hidden + Channel.START] = LEVEL
    types = types.flatten(0, 1)
    # Where an element is far above the others, as in all-MiniLM-L6-v2, storing it as 8-bit integers
    # would change what everybody sees. So it is from the start what can be stored.
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
    """Gain and bias that leave the encoder's elements as they are, and the new ones.

    Args:
        bert: The encoder's weights.
        name: The norm's.
        config: The wider encoder's.
        norm: What the encoder's is given.
        coded: Whether words' codes are there.
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
        # Vocabulary have been found.
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
    """Attention with the encoder's heads where ALiBi disturbs them least, and a new one, silent."""
    source, target = f"encoder.layer.{number}.attention", f"bert.encoder.layer.{number}.attention"
    heads, width = config.num_attention_heads, config.hidden_size
    size = width // heads
    new = new_head(config, number)
    places = [place for place in heads_by_reach(config) if place != new]
    farthest = reach.argsort(descending=True).tolist()
    # A silent head's are drawn as well, so that what is drawn after them stays what it was.
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
    """A head's query and key, with the texts' channels for the two elements that matter least.

    Their product is all that counts, so a singular value decomposition may choose the elements. A
    bias of the key adds the same to all scores of a token and is left out.
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
    """The first layer's new head: a token finds its own word, by its code, in the other text."""
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
    # [CLS] is the same in every pair, so what it holds is known, and not only about LEVEL.
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
    """Number of elements of a word's state that hold its code: all new ones but the channels.

    Args:
        config: The wider encoder's.
    """
    return config.hidden_size // config.num_attention_heads - len(Channel)


def new_head(config: JinaBertConfig, number: int) -> int:
    """The head of a layer that the encoder does not have.

    The first layer's looks farthest, since it is to find words wherever they are; others look
    nearest, since the encoder's heads suffer more from steep slopes.
    """
    return heads_by_reach(config)[0 if number == 0 else -1]


def heads_by_reach(config: JinaBertConfig) -> list[int]:
    """The heads, those that look farthest first."""
    slopes = alibi_slopes(config.num_attention_heads, config.alibi_slopes)
    return sorted(range(len(slopes)), key=slopes.__getitem__)


def _wide(given: Tensor, width: int, dim: int) -> Tensor:
    """Filled up with zeros."""
    missing = width - given.shape[dim]
    before = [0, 0] * (given.ndim - 1 - dim)
    return F.pad(given, (*before, 0, missing))
