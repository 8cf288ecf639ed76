"""An encoder reranker in torch, computed without padding.

The tokens of all sequences lie one after another in one (tokens, hidden) matrix. Everything but
attention works token by token, whatever sequence a token belongs to; attention runs once for each
run of sequences of equal length. So nothing is computed for padding, and a logit cannot depend on
it.

The module tree and its parameter names are BERT's, which JinaBERT's checkpoints have too; families
map the names to those of other checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Self

import torch
from torch import Tensor, nn

from ..errors import InputError
from .architecture import Architecture
from .attention import PackedAttention
from .embeddings import Embeddings
from .layer import Layer, Pooler
from .modules import new_norm, normed, product
from .sequences import Sequences

Encode = Callable[[Tensor, Sequences], Tensor]
"""Runs the layers: from embedded tokens, shape (tokens, hidden), to a vector for each sequence that
the head reads, shape (sequences, hidden), float32."""


class PackedForward:
    """The forward pass, for modules with these attributes: `EncoderModel` and transformers' model.

    Attributes:
        bert: Embeddings, layers and pooler.
        classifier: The last product of the head.
        architecture: The shape.
    """

    bert: Bert
    classifier: nn.Linear
    architecture: Architecture

    def _build(self, architecture: Architecture) -> None:
        """Make the three attributes, with random weights."""
        self.architecture = architecture
        self.bert = Bert(architecture)
        self.classifier = nn.Linear(architecture.hidden_size, 1)

    def forward_padded(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Compute the logits of a padded batch.

        Args:
            input_ids: Shape (batch, length), integers.
            attention_mask: Same shape; nonzero for tokens, zero for the padding, which must
                stand at the end of a row. None for no padding.
            token_type_ids: Same shape; None for all zero.

        Returns:
            Shape (batch,), float32.

        Raises:
            InputError: A row is all padding, or has tokens after its padding.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        mask = attention_mask != 0
        lengths = mask.sum(dim=1)
        if bool((lengths == 0).any()) or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise InputError("attention_mask", "each row must be tokens first, then padding")
        types = None if token_type_ids is None else token_type_ids[mask]
        return self.forward_packed(input_ids[mask], lengths.tolist(), types)

    def forward_packed(
        self,
        input_ids: Tensor,
        lengths: Sequence[int],
        token_type_ids: Tensor | None = None,
        *,
        encode: Encode | None = None,
    ) -> Tensor:
        """Compute the logits of sequences that lie one after another.

        Fastest where sequences of equal length are neighbours; right in any order.

        Args:
            input_ids: Shape (tokens,), integers.
            lengths: Tokens in each sequence, each at least 1; they add up to `tokens`.
            token_type_ids: Shape (tokens,); None for all zero.
            encode: An engine's layers; None for the model's own.

        Returns:
            Shape (sequences,), float32.
        """
        sequences = Sequences(lengths, input_ids.device)
        hidden = self.bert.embeddings(input_ids, token_type_ids, sequences)
        return self.head((encode or self.encode)(hidden, sequences))

    def encode(self, hidden: Tensor, sequences: Sequences) -> Tensor:
        """Run the layers as torch's modules; see `Encode`."""
        attention = PackedAttention(self.architecture, hidden.device)
        layers = self.bert.encoder.layers
        for number, layer in enumerate(layers[:-1]):
            hidden = layer.run(hidden, attention.of_layer(number, sequences))
        last, number = layers[-1], len(layers) - 1
        if self.architecture.head.pooling == "mean":
            whole = last.run(hidden, attention.of_layer(number, sequences))
            return sequences.means(self.final_norm(whole))
        inputs, own = last.before_attention(hidden), hidden[sequences.first].float()
        query = last.query(inputs[sequences.first].float())
        attend = attention.of_first(number, sequences)
        context = attend(query, last.key(inputs), last.value(inputs))
        return self.final_norm(last.after_attention(context, own))

    @property
    def final_norm(self) -> Callable[[Tensor], Tensor]:
        """The norm after the last layer, where the model has one: a function, in float32."""
        return partial(_in_float32, self.bert.encoder.final_norm)

    def head(self, pooled: Tensor) -> Tensor:
        """Compute the logits, in float32 whatever the dtype of the layers.

        In bfloat16 a tanh has so few values near 1 that different documents would tie.

        Args:
            pooled: A vector for each sequence, shape (sequences, hidden).

        Returns:
            Shape (sequences,), float32.
        """
        return product(self.classifier, self.bert.pooler(pooled)).squeeze(-1)

    def head_alone(self) -> Callable[[Tensor], Tensor]:
        """Get `head` without a reference to the layers."""
        return partial(_logits, self.bert.pooler, self.classifier)


def _logits(pooler: Pooler, classifier: nn.Linear, pooled: Tensor) -> Tensor:
    return product(classifier, pooler(pooled)).squeeze(-1)


def _in_float32(norm: nn.LayerNorm | None, rows: Tensor) -> Tensor:
    return rows.float() if norm is None else normed(norm, rows.float())


class EncoderModel(PackedForward, nn.Module):
    """An encoder reranker with one output: the logit of a pair.

    Built from an architecture it has random weights; `from_pretrained` reads a checkpoint.

    Args:
        architecture: The shape.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self._build(architecture)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | PathLike[str],
        *,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> EncoderModel:
        """Read a checkpoint of any family. No tokenizer file is needed.

        Args:
            folder_or_hub_id: A folder, or a model's name on the Hugging Face hub.
            dtype: Dtype of the computation, whatever the file stores: float32 or bfloat16. fp16
                overflows in JinaBERT.
            revision: A branch, tag or commit of the hub's repository.

        Returns:
            The model in evaluation mode, on the CPU.

        Raises:
            ModelLoadError: Files are missing, or do not hold exactly such a model.
        """
        from .checkpoint import load_state
        from .families import read_checkpoint
        from .files import find_checkpoint

        files = find_checkpoint(folder_or_hub_id, revision=revision, tokenizer=False)
        checkpoint = read_checkpoint(files)
        # Meta tensors take no memory and no random numbers; the file's tensors replace them.
        with torch.device("meta"):
            model = EncoderModel(checkpoint.architecture)
        return model.take(load_state(checkpoint, dtype))

    def take(self, state: Mapping[str, Tensor]) -> Self:
        """Replace the model's own weights, for inference.

        Args:
            state: Every parameter by its name.
        """
        self.load_state_dict(state, strict=True, assign=True)
        return self.eval().requires_grad_(False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Compute the logits of a padded batch: `forward_padded`."""
        return self.forward_padded(input_ids, attention_mask, token_type_ids)


class Bert(nn.Module):
    """Embeddings, layers and pooler.

    Args:
        architecture: The shape.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.embeddings = Embeddings(architecture)
        self.encoder = Layers(architecture)
        self.pooler = Pooler(architecture)


class Layers(nn.Module):
    """The layers, and the norm after the last layer where norms come first.

    Args:
        architecture: The shape.

    Attributes:
        layer: The checkpoint's name for the list.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            Layer(architecture, number) for number in range(architecture.num_hidden_layers)
        )
        self.final_norm = new_norm(architecture) if architecture.norm_first else None

    @property
    def layers(self) -> list[Layer]:
        """The layers, typed."""
        return [layer for layer in self.layer if isinstance(layer, Layer)]
