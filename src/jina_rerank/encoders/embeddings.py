"""Word, position and token type embeddings, added and normed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .architecture import Architecture, PositionTable
from .modules import new_norm
from .sequences import Sequences


class Embeddings(nn.Module):
    """Word, position and token type embeddings, added and normed.

    Args:
        architecture: The shape.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        hidden = architecture.hidden_size
        self.word_embeddings = _embedding(architecture.vocab_size, hidden)
        self._text_positions = architecture.text_positions
        positions = architecture.positions
        self._table = positions if isinstance(positions, PositionTable) else None
        if self._table is not None:
            self.position_embeddings = _embedding(self._table.rows, hidden)
        self._token_types = architecture.token_types
        if self._token_types:
            rows = architecture.token_types * architecture.text_positions
            self.token_type_embeddings = _embedding(rows, hidden)
        self.LayerNorm = new_norm(architecture)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, sequences: Sequences
    ) -> Tensor:
        """Embed tokens.

        Args:
            input_ids: Shape (rows,): sequences one after another, and any filling behind them.
            token_type_ids: Same shape; None for all zero.
            sequences: The sequences in the rows.

        Returns:
            Shape (rows, hidden), in the dtype of the weights.
        """
        embedded: Tensor = self.word_embeddings(input_ids)
        if self._token_types:
            embedded = embedded + self._types(token_type_ids, input_ids, sequences)
        if self._table is not None:
            rows = _position_rows(self._table, input_ids, sequences)
            embedded = embedded + self.position_embeddings(rows)
        normed: Tensor = self.LayerNorm(embedded)
        return normed

    def _types(
        self, token_type_ids: Tensor | None, input_ids: Tensor, sequences: Sequences
    ) -> Tensor:
        weight: Tensor = self.token_type_embeddings.weight
        if self._text_positions > 1:
            types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            places = places_in_texts(types, sequences.first).clamp(max=self._text_positions - 1)
            return weight[types * self._text_positions + places]
        if token_type_ids is None or self._token_types == 1:
            return weight[0]
        return weight[token_type_ids]


def _position_rows(table: PositionTable, input_ids: Tensor, sequences: Sequences) -> Tensor:
    """Compute the row of the position table for each token."""
    behind = len(input_ids) - sequences.tokens
    if table.padding_id is None:
        return F.pad(sequences.places, (0, behind))
    own = input_ids[: sequences.tokens]
    counts = own != table.padding_id
    up_to = counts.cumsum(0)
    before = up_to - counts.long()
    place = up_to - before[sequences.first][sequences.of_tokens]
    return F.pad(place * counts, (0, behind)) + table.padding_id


def places_in_texts(token_type_ids: Tensor, first: Tensor) -> Tensor:
    """Compute each token's place in its run of tokens of one type, from 0.

    Args:
        token_type_ids: Token types of sequences one after another, shape (tokens,).
        first: Index of each sequence's first token, shape (sequences,).

    Returns:
        Shape (tokens,), int64.
    """
    index = torch.arange(len(token_type_ids), device=token_type_ids.device)
    begins = torch.zeros_like(index, dtype=torch.bool)
    begins[first] = True
    begins[1:] |= token_type_ids[1:] != token_type_ids[:-1]
    return index - torch.where(begins, index, 0).cummax(0).values


def _embedding(rows: int, columns: int) -> nn.Embedding:
    """Make an embedding of small random vectors.

    nn.Embedding's own initialization, normal_, makes torch import its compiler when it runs on a
    meta tensor: 1.5 s at every load.
    """
    start = torch.empty(rows, columns).uniform_(-0.03, 0.03)
    return nn.Embedding(rows, columns, _weight=start)
