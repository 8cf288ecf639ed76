"""The formula of a transformer layer, written once.

Torch's modules, the fused CPU kernels and the ONNX graph are subclasses, which implement products,
norms and activations. Attention is passed in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

Attend: TypeAlias = Callable[[T, T, T], T]
"""Attention of one layer: from queries, keys and values, each of shape (rows, heads * head size),
to the outputs of the heads for each query, of the queries' shape."""


class Block(ABC, Generic[T]):
    """A transformer layer over values of type `T`: tensors, or names in a graph.

    All values have shape (rows, hidden), with one row for each token.

    Attributes:
        norm_first: See `Architecture.norm_first`.
        has_gate: See `Architecture.gated`.
    """

    norm_first: bool
    has_gate: bool

    def run(self, hidden: T, attend: Attend[T]) -> T:
        """Compute the whole layer.

        Args:
            hidden: Output of the layer below.
            attend: Attention among all rows.
        """
        projected = self.project(self.before_attention(hidden))
        return self.after_attention(attend(*projected), hidden)

    def before_attention(self, hidden: T) -> T:
        """Compute the input of the projections to queries, keys and values."""
        return self.normed_attention(hidden) if self.norm_first else hidden

    def after_attention(self, context: T, hidden: T) -> T:
        """Compute the rest of the layer after attention; each row is independent of the others.

        Args:
            context: Output of the attention heads.
            hidden: Output of the layer below, for the same rows.
        """
        if self.norm_first:
            attended = self.attention_out(context, hidden)
            return self.feed_forward_out(self.units(self.normed(attended)), attended)
        attended = self.normed_attention(self.attention_out(context, hidden))
        return self.feed_forward(attended)

    def feed_forward(self, attended: T) -> T:
        """Compute the feed-forward of a layer whose norms come after the residual sums."""
        return self.normed(self.feed_forward_out(self.units(attended), attended))

    def units(self, rows: T) -> T:
        """Compute the units of the feed-forward, shape (rows, intermediate)."""
        activated = self.activated(rows)
        return self.gated(rows, activated) if self.has_gate else activated

    @abstractmethod
    def project(self, rows: T) -> tuple[T, T, T]:
        """Compute queries, keys and values."""

    @abstractmethod
    def attention_out(self, context: T, residual: T) -> T:
        """Compute attention's output product, plus the residual."""

    @abstractmethod
    def normed_attention(self, rows: T) -> T:
        """Apply attention's layer norm."""

    @abstractmethod
    def activated(self, rows: T) -> T:
        """Compute the activation of the first product of the feed-forward."""

    @abstractmethod
    def gated(self, rows: T, activated: T) -> T:
        """Compute the second product of a gated feed-forward, times the activated units."""

    @abstractmethod
    def feed_forward_out(self, units: T, residual: T) -> T:
        """Compute the feed-forward's output product, plus the residual."""

    @abstractmethod
    def normed(self, rows: T) -> T:
        """Apply the feed-forward's layer norm."""
