"""Description of an encoder reranker, for the forward pass, the engines and ONNX.

A family reads it from a checkpoint's config.json; see `families`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Activation = Literal["gelu", "relu", "tanh"]
"""GELU is the exact one, by erf, and not its approximation by tanh."""

Pooling = Literal["first", "mean"]
"""A sequence's first token, or the mean of all of its tokens."""


@dataclass(frozen=True, slots=True)
class Alibi:
    """Positions by a bias on attention scores, -slope * |i - j| (arXiv:2108.12409), symmetric.

    With these positions, a layer's window limits all heads but the one with the smallest slope, and
    only in sequences of more than two windows.

    Attributes:
        slopes: One for each head, positive.
    """

    slopes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PositionTable:
    """Positions by a table of learned vectors, added to the token embeddings.

    Attributes:
        rows: Number of vectors in the table.
        padding_id: With None, all tokens are counted from row 0 on, as in BERT. With an id, as in
            RoBERTa, tokens with this id have the row of the same number, and only the others are
            counted, from the next row on.
    """

    rows: int
    padding_id: int | None = None


@dataclass(frozen=True, slots=True)
class Rotary:
    """Positions by rotating queries and keys (RoPE, arXiv:2104.09864); halves form the pairs.

    Attributes:
        thetas: The base of the wavelengths, one for each layer.
    """

    thetas: tuple[float, ...]


Positions: TypeAlias = Alibi | PositionTable | Rotary


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head, from a pooled vector to a logit: dense layer, activation, norm or none, one output.

    Attributes:
        pooling: Pooling of a sequence to one vector.
        activation: Activation after the dense layer.
        dense_bias: Whether the dense layer has a bias.
        norm: Whether a layer norm follows the activation.
        norm_bias: Whether that norm has a bias.
        norm_eps: Added to the variance in that norm.
    """

    pooling: Pooling = "first"
    activation: Activation = "tanh"
    dense_bias: bool = True
    norm: bool = False
    norm_bias: bool = True
    norm_eps: float = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Shape and kind of an encoder with a head of one output.

    Attributes:
        vocab_size: Rows of the word embedding.
        hidden_size: Width of a token's vector.
        num_hidden_layers: Number of transformer layers.
        num_attention_heads: Number of attention heads; divides `hidden_size`.
        intermediate_size: Units of the feed-forward, behind the gate where there is one.
        max_length: Longest pair in tokens.
        layer_norm_eps: Added to the variance in every layer norm but the head's.
        positions: Kind of position encoding.
        windows: For each layer, the largest distance that a token attends to on either side, in
            tokens; None without a limit. With ALiBi see `Alibi`.
        token_types: Number of token types that have an embedding; 0 for none.
        text_positions: Number of places in a run of one token type that have different token type
            embeddings; 1 for a plain embedding. See `JinaBertConfig`.
        activation: Activation in the feed-forward.
        gated: Whether the feed-forward multiplies activated units with others (GLU,
            arXiv:2002.05202).
        norm_first: Whether norms come before attention and feed-forward instead of after the
            residual sum. The first layer then has no norm before its attention, since the
            embeddings are normed, and one norm follows the last layer.
        attention_bias: Whether the products of attention have a bias.
        units_bias: Whether the product before the activation has a bias.
        out_bias: Whether the product behind the units has a bias.
        norm_bias: Whether layer norms have a bias.
        head: The head, which follows the last layer.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_length: int
    layer_norm_eps: float
    positions: Positions
    windows: tuple[int | None, ...]
    token_types: int = 0
    text_positions: int = 1
    activation: Activation = "gelu"
    gated: bool = False
    norm_first: bool = False
    attention_bias: bool = True
    units_bias: bool = True
    out_bias: bool = True
    norm_bias: bool = True
    head: Head = Head()

    @property
    def head_size(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden_size // self.num_attention_heads
