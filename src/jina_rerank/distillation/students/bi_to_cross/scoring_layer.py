"""The layer on top, which initially compares the mean vectors of the two texts.

The attention of [CLS] gathers the mean vectors: some heads attend to the query and others to the
passage, to all tokens of it equally. Only ALiBi gives near tokens more weight, so the heads with
the smallest slopes attend to the passage. The heads' values are the mean vectors along the
directions in which such vectors differ most.

The feed-forward multiplies the two vectors. There are four units for each direction. With q and p
the elements of the two vectors, scaled down, they give

    gelu(q+p) + gelu(-q-p) - gelu(q-p) - gelu(p-q)
      = sqrt(2/pi) ((q+p)^2 - (q-p)^2)
      = sqrt(32/pi) q p

since gelu(z) + gelu(-z) = z erf(z / sqrt(2)), which is sqrt(2/pi) z^2 up to a relative error of
z^2/6. The logit is the sum over directions, which for the mean vectors of a sentence encoder is
nearly their cosine, plus a term for the words that both texts share, which one more head gathers
(see `layers`).

To learn a product of vectors from rankings, training would need as many rankings as a matrix has
elements. Here it only has to improve the product.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ....encoders import JinaBertConfig
from .layers import APART, LEVEL, SURE, Channel, State, heads_by_reach

REACH = 10.0
"""The amount that a product of 1 adds to an element of the state, in standard deviations of the
other elements: far above their noise, but too little to change the vector's length much."""

SMALLNESS = 0.2
"""Factor by which q and p are scaled down. They are about 1, so the product's error is one or two
hundredths. A smaller factor would bring the terms close to rounding errors."""

STEEPNESS = 20.0
"""The logit of a product of 1: cosines in a list of candidates differ by tenths."""

MIDDLE = 0.3
"""The product whose logit is 0: the cosine of a question and its answer is mostly larger."""

SHARED = 0.05
"""Weight of the shared words, if the passage has all words of the query, relative to a product of
1. The shared words are a noisy feature: before training, the student of all-MiniLM-L6-v2 ranks best
with this small weight."""

LOUDNESS = 4.0
"""Factor by which the gathered vectors are scaled up, to dominate the other elements of [CLS]."""


def directions_of(vectors: Tensor, count: int) -> Tensor:
    """Compute the principal directions of vectors, by singular value decomposition.

    Args:
        vectors: Mean vectors of texts, shape (texts, hidden).
        count: Number of directions.

    Returns:
        Orthonormal directions, shape (count, hidden), the largest singular value first. They give
        the best approximation of the product of two vectors by this number of directions.
    """
    unit = F.normalize(vectors, dim=1)
    rows: Tensor = torch.linalg.svd(unit.T @ unit)[2]
    return rows[:count].contiguous()


def gathered_directions(config: JinaBertConfig) -> int:
    """Number of directions gathered of each vector: one head is for words, the rest is halved.

    With 192 of 384 directions, computed on other texts, all-MiniLM-L6-v2's mean vectors rank as
    well as with all; with 128 they do not.
    """
    heads = config.num_attention_heads
    return (heads - 1) // 2 * (config.hidden_size // heads)


def scoring_layer(
    config: JinaBertConfig,
    queries: Tensor,
    passages: Tensor,
    generator: torch.Generator,
) -> State:
    """Build the weights of the last layer, the pooler and the classifier.

    Args:
        config: The model's configuration.
        queries: The encoder's mean vectors of queries, shape (texts, the encoder's hidden size).
        passages: The encoder's mean vectors of passages, same shape.
        generator: Random generator of the weights that neither gather nor multiply.

    Returns:
        Part of a state dict.
    """
    layer = f"bert.encoder.layer.{config.num_hidden_layers - 1}"
    width = config.hidden_size

    def random(*shape: int) -> Tensor:
        return torch.empty(shape).normal_(0, 0.02, generator=generator)

    state = {
        f"{layer}.intermediate.dense.bias": torch.zeros(config.intermediate_size),
        f"{layer}.output.dense.bias": torch.zeros(width),
    }
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        state[f"{layer}.{name}.weight"] = torch.ones(width)
        state[f"{layer}.{name}.bias"] = torch.zeros(width)
    directions = directions_of(passages, gathered_directions(config))
    longer = float(queries.norm(dim=1).mean() / passages.norm(dim=1).mean())
    state |= _gathering(config, layer, directions, longer, random(3, width, width))
    count = min(len(directions), config.intermediate_size // 4)
    into, out = random(config.intermediate_size, width), random(width, config.intermediate_size)
    into[: 4 * count], out[:, : 4 * count] = 0.0, 0.0
    # Scaled by this, two vectors of length 1 are together as long as a normalized state.
    scale = math.sqrt(width / 2)
    product = REACH / (math.sqrt(32 / math.pi) * (SMALLNESS * scale) ** 2)
    for number, (q, p) in enumerate(((1, 1), (-1, -1), (1, -1), (-1, 1))):
        four = slice(number * count, (number + 1) * count)
        into[four, :count] = p * SMALLNESS * torch.eye(count)
        into[four, len(directions) : len(directions) + count] = q * SMALLNESS * torch.eye(count)
        out[-2:, four] = p * q * product * torch.tensor([[-1.0], [1.0]])
    pooler = random(width, width)
    pooler[0] = 0.0
    pooler[0, -2:] = torch.tensor([-0.5, 0.5]) / REACH
    pooler[0, -3] = SHARED / LEVEL
    classifier = torch.zeros(1, width)
    classifier[0, 0] = STEEPNESS
    return state | {
        f"{layer}.intermediate.dense.weight": into,
        f"{layer}.output.dense.weight": out,
        "bert.pooler.dense.weight": pooler,
        "bert.pooler.dense.bias": torch.zeros(width),
        "classifier.weight": classifier,
        "classifier.bias": torch.tensor([-STEEPNESS * math.tanh(MIDDLE)]),
    }


def _gathering(
    config: JinaBertConfig,
    layer: str,
    directions: Tensor,
    longer: float,
    random: Tensor,
) -> State:
    """Build the attention that gathers both vectors in the state of [CLS], one behind the other.

    Args:
        config: The model's configuration.
        layer: Prefix of the layer's weights.
        directions: Directions of the mean vectors, see `directions_of`.
        longer: Ratio of the mean lengths of queries' and passages' vectors. The norm behind cannot
            correct it, since it scales both vectors together.
        random: Queries, keys and values of the other heads, shape (3, width, width).
    """
    heads, width = config.num_attention_heads, config.hidden_size
    size, hidden = width // heads, directions.shape[1]
    gentlest, each = heads_by_reach(config), (heads - 1) // 2
    query, key, value = random.clone()
    query_bias, dense = torch.zeros(width), torch.zeros(width, width)
    hidden_by = APART * math.sqrt(size) / LEVEL

    def look(head: int, other: Channel, rows: Tensor, to: slice, gain: float) -> None:
        """Let a head of [CLS] attend equally to one text, and not to the other or to [CLS]."""
        own = slice(head * size, head * size + len(rows))
        for weight in (query, key, value):
            weight[head * size : (head + 1) * size] = 0.0
        query_bias[own.start] = 1.0
        key[own.start, hidden + other] = -hidden_by
        key[own.start, hidden + Channel.START] = -SURE * hidden_by
        key[own.start, hidden + Channel.ZERO] = (1 + SURE) * hidden_by
        value[own] = rows
        dense[to, own] = gain * torch.eye(len(rows))

    vectors = F.pad(directions, (0, width - hidden))
    both = ((Channel.QUERY, len(directions), longer), (Channel.PASSAGE, 0, 1.0))
    for number, (other, first, gain) in enumerate(both):
        for at in range(each):
            head = gentlest[number * each + at]
            rows = vectors[at * size : (at + 1) * size]
            to = slice(first + at * size, first + (at + 1) * size)
            look(head, other, rows, to, LOUDNESS * gain)
    found = torch.zeros(1, width)
    found[0, hidden + Channel.FOUND], found[0, hidden + Channel.ZERO] = 1.0, -1.0
    look(gentlest[2 * each], Channel.PASSAGE, found, slice(width - 3, width - 2), LOUDNESS)
    state = {}
    parts = {"query": query, "key": key, "value": value}
    for name, weight in parts.items():
        state[f"{layer}.attention.self.{name}.weight"] = weight
        state[f"{layer}.attention.self.{name}.bias"] = torch.zeros(width)
    return state | {
        f"{layer}.attention.self.query.bias": query_bias,
        f"{layer}.attention.output.dense.weight": dense,
        f"{layer}.attention.output.dense.bias": torch.zeros(width),
    }
