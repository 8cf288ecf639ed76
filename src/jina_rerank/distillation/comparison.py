"""Two layers on top of a converted encoder that begin by comparing what it makes of two texts.

The lower gathers: the first token's state is to hold the query's mean vector and the passage's,
each along the directions in which such vectors differ most. That is learned, from a vector for
each pair, see `gathered`. The upper multiplies: its weights are set so that the logit rises with
the product of the two vectors, which for the mean vectors of a sentence encoder is their cosine.

To learn a product of vectors from rankings takes as many of them as a matrix has elements; here
training only has to make it better.

For each direction i there are two units. With q and p the elements of the two vectors, they give

    gelu(q) * p + gelu(-q) * -p = (gelu(q) - gelu(-q)) * p = q * p

since gelu(z) - gelu(-z) = z, and so for relu. Their sum goes to two elements of the state that the
vectors leave free, with opposite signs, because a layer norm follows that takes the mean away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

FREE = 8
"""Elements of the first token's state that hold neither vector."""

REACH = 10.0
"""What a product of 1 adds to an element of the state, in standard deviations of the others: far
above their noise, and so little that the norm behind hardly gets longer."""

STEEPNESS = 20.0
"""What a product of 1 makes of the logit: cosines in a list of candidates differ by tenths."""

MIDDLE = 0.3
"""The product whose logit is 0: cosines of a question and its answer are above it mostly."""


def directions_in_state(hidden: int) -> int:
    """How many elements of each vector the first token's state holds."""
    return (hidden - FREE) // 2


def comparing(state: dict[str, Tensor], layer: str, units: int) -> dict[str, Tensor]:
    """The weights of the upper layer and of the head that make it multiply.

    Args:
        state: A state dict with a layer of that name and the head, as they are before training.
        layer: The name of the last layer.
        units: Of its feed-forward; of fewer than two for each direction the rest is not compared.

    Returns:
        What is to be put into the state dict.
    """
    gated = state[f"{layer}.mlp.gated_layers.weight"].clone()
    out = state[f"{layer}.mlp.wo.weight"].clone()
    pooler = state["bert.pooler.dense.weight"].clone()
    classifier = state["classifier.weight"].clone()
    hidden = gated.shape[1]
    every = directions_in_state(hidden)
    count = min(every, units // 2)
    gate, value = gated[:units], gated[units:]
    for half, sign in ((slice(0, count), 1.0), (slice(count, 2 * count), -1.0)):
        gate[half], value[half] = 0.0, 0.0
        gate[half, :count] = sign * torch.eye(count)
        value[half, every : every + count] = sign * torch.eye(count)
    out[:, : 2 * count] = 0.0
    out[-2:, : 2 * count] = REACH / _scale(hidden) ** 2 * torch.tensor([[-1.0], [1.0]])
    pooler[0] = 0.0
    pooler[0, -2:] = torch.tensor([-0.5, 0.5]) / REACH
    classifier[0, 0] = STEEPNESS
    return {
        f"{layer}.mlp.gated_layers.weight": gated,
        f"{layer}.mlp.wo.weight": out,
        f"{layer}.attention.output.dense.weight": torch.zeros(hidden, hidden),
        "bert.pooler.dense.weight": pooler,
        "bert.pooler.dense.bias": F.pad(state["bert.pooler.dense.bias"][1:], (1, 0)),
        "classifier.weight": classifier,
        "classifier.bias": torch.tensor([-STEEPNESS * math.tanh(MIDDLE)]),
    }


def directions_of(vectors: Tensor) -> Tensor:
    """The directions along which vectors are longest, as many as the state has room for.

    Args:
        vectors: Mean vectors of texts, shape (texts, hidden).

    Returns:
        Shape (directions, hidden), orthonormal. The product of two vectors along them is the best
        that so many directions can give.
    """
    unit = F.normalize(vectors, dim=1)
    rows: Tensor = torch.linalg.svd(unit.T @ unit)[2]
    return rows[: directions_in_state(vectors.shape[1])].contiguous()


def gathered(queries: Tensor, passages: Tensor, directions: Tensor) -> Tensor:
    """What the first token's state is to be below the last layer.

    Args:
        queries: Mean vectors, shape (pairs, hidden).
        passages: The same.
        directions: See `directions_of`.

    Returns:
        Shape (pairs, hidden), of the length that a layer norm gives.
    """
    along: Sequence[Tensor] = [F.normalize(v, dim=1) @ directions.T for v in (queries, passages)]
    hidden = queries.shape[1]
    both = F.pad(torch.cat(list(along), dim=1), (0, hidden - 2 * len(directions)))
    return _scale(hidden) * both


def _scale(hidden: int) -> float:
    """What makes two vectors of length 1 together as long as a normed state."""
    return math.sqrt(hidden / 2)
