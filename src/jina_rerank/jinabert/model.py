"""The forward pass of a JinaBERT reranker, computed without padding.

The tokens of all sequences lie one after another in one (tokens, hidden) matrix. Everything
but attention works token by token and never sees where a sequence ends; attention runs once
for each run of sequences of equal length. So nothing is computed for padding, and a logit
cannot depend on it.

The module tree and its parameter names are those of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from os import PathLike
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .alibi import Bias
from .attention import attend
from .config import JinaBertConfig
from .packing import spans

Encode = Callable[[Tensor, Sequence[tuple[int, int]], Bias, Tensor], Tensor]
"""Runs the layers: from the embedded tokens, shape (tokens, hidden), the runs of sequences as
(length, count), the bias of attention, and the positions of the first tokens, to what the last
layer makes of the first tokens, shape (sequences, hidden)."""


class PackedForward:
    """The forward pass, for every module that has these three: `JinaBert` and transformers' own.

    Attributes:
        bert: Embeddings, layers and pooler.
        classifier: The head.
    """

    bert: _Bert
    classifier: nn.Linear
    _shape: JinaBertConfig

    def _build(self, config: JinaBertConfig) -> None:
        """Make the three, with random weights."""
        self.bert = _Bert(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
        # The bias is no buffer: casting the model to bfloat16 would cast it too.
        self._shape = config

    def forward_padded(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """The logits of a padded batch.

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
        """The logits of sequences that lie one after another.

        Fastest where sequences of equal length are neighbours; right in any order.

        Args:
            input_ids: Shape (tokens,), integers.
            lengths: Tokens in each sequence, each at least 1; they add up to `tokens`.
            token_type_ids: Shape (tokens,); None for all zero.
            encode: What runs the layers; None for the model's own.

        Returns:
            Shape (sequences,), float32.
        """
        device = input_ids.device
        first = torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)
        bias = Bias.of(self._shape, device)
        hidden = self.bert.embeddings(input_ids, token_type_ids, first)
        runs = [(length, len(list(run))) for length, run in groupby(lengths)]
        return self.head((encode or self.bert.encoder)(hidden, runs, bias, first))

    def head(self, first_tokens: Tensor) -> Tensor:
        """The logits, computed in float32 whatever the dtype of the layers.

        In bfloat16 the pooler's tanh has so few values near 1 that different documents would tie.

        Args:
            first_tokens: Output of the last layer for first tokens, shape (sequences, hidden).

        Returns:
            Shape (sequences,), float32.
        """
        return _in_float32(self.classifier, self.bert.pooler(first_tokens)).squeeze(-1)


class JinaBert(PackedForward, nn.Module):
    """A JinaBERT cross-encoder with one output: the logit of a pair.

    Built from a configuration it has random weights; `from_pretrained` reads a checkpoint.

    Args:
        config: The shape.
    """

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.config = config
        self._build(config)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | PathLike[str],
        *,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> Self:
        """Read a checkpoint: config.json and weights. No tokenizer file is needed.

        Args:
            folder_or_hub_id: A folder, or a model's name on the Hugging Face hub.
            dtype: What to compute in, whatever the file stores: float32 or bfloat16. fp16
                overflows in these models.
            revision: A branch, tag or commit of the hub's repository.

        Returns:
            The model in evaluation mode, on the CPU.

        Raises:
            ModelLoadError: Files are missing, or do not hold exactly this model.
        """
        from .checkpoint import load_weights
        from .files import find_checkpoint

        files = find_checkpoint(folder_or_hub_id, revision=revision, tokenizer=False)
        config = JinaBertConfig.from_file(files.config)
        # Meta tensors take no memory and no random numbers; the file's are put in their place.
        with torch.device("meta"):
            model = cls(config)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        state = load_weights(files, expected, dtype, config.quantization)
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """The logits of a padded batch: `forward_padded`."""
        return self.forward_padded(input_ids, attention_mask, token_type_ids)


class _Bert(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)
        self.pooler = _Pooler(config)


class _Encoder(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        kind = _PlainLayer if config.feed_forward_type == "original" else _GatedLayer
        self.layer = nn.ModuleList(kind(config) for _ in range(config.num_hidden_layers))

    def forward(
        self, hidden: Tensor, runs: Sequence[tuple[int, int]], bias: Bias, first: Tensor
    ) -> Tensor:
        *layers, last = self.layer
        for layer in layers:
            hidden = layer(hidden, runs, bias)
        whole: Tensor = last(hidden, runs, bias.without_limits())
        return whole[first]


class _Embeddings(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.word_embeddings = _embedding(config.vocab_size, config.hidden_size)
        self._positions = config.text_positions
        types = config.type_vocab_size * config.text_positions
        self.token_type_embeddings = _embedding(types, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None, first: Tensor | None = None
    ) -> Tensor:
        """The vectors of sequences one after another, which begin at `first`; None for one."""
        types = self.token_type_embeddings
        if self._positions > 1:
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(input_ids)
            places = places_in_texts(token_type_ids, first).clamp(max=self._positions - 1)
            typed = types(token_type_ids * self._positions + places)
        else:
            typed = types.weight[0] if token_type_ids is None else types(token_type_ids)
        normed: Tensor = self.LayerNorm(self.word_embeddings(input_ids) + typed)
        return normed


def places_in_texts(token_type_ids: Tensor, first: Tensor | None = None) -> Tensor:
    """Where each token stands among those of its type around it, counted from 0.

    Args:
        token_type_ids: Of sequences one after another, shape (tokens,).
        first: Where each sequence begins, shape (sequences,); None for one sequence.

    Returns:
        Shape (tokens,), int64.
    """
    index = torch.arange(len(token_type_ids), device=token_type_ids.device)
    begins = torch.zeros_like(index, dtype=torch.bool)
    begins[0 if first is None else first] = True
    begins[1:] |= token_type_ids[1:] != token_type_ids[:-1]
    return index - torch.where(begins, index, 0).cummax(0).values


def _embedding(rows: int, columns: int) -> nn.Embedding:
    """Small random vectors.

    nn.Embedding's own start, normal_, makes torch import its compiler when it runs on a meta
    tensor: 1.5 s at every load.
    """
    start = torch.empty(rows, columns).uniform_(-0.03, 0.03)
    return nn.Embedding(rows, columns, _weight=start)


class _Pooler(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first_tokens: Tensor) -> Tensor:
        return torch.tanh(_in_float32(self.dense, first_tokens))


def _in_float32(linear: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x.float(), linear.weight.float(), linear.bias.float())


class _Layer(nn.Module):
    """A post-norm block: attention, then the feed-forward, each added and normed.

    Kinds differ in what their feed-forward's units give, and in its names.
    """

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)

    def forward(self, hidden: Tensor, runs: Sequence[tuple[int, int]], bias: Bias) -> Tensor:
        return self.feed_forward(self.attention(hidden, runs, bias))

    def feed_forward(self, hidden: Tensor) -> Tensor:
        """All that follows the attention, token by token."""
        normed: Tensor = self.norm(hidden + self.out(self.units(hidden)))
        return normed

    def units(self, hidden: Tensor) -> Tensor:
        """What the units give, shape (rows, intermediate)."""
        raise NotImplementedError

    @property
    def out(self) -> nn.Linear:
        """The product behind the units."""
        raise NotImplementedError

    @property
    def norm(self) -> nn.LayerNorm:
        """The norm behind that."""
        raise NotImplementedError


class _Attention(nn.Module):
    """`self` and `output` are the checkpoint's names for the two halves."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.self = nn.ModuleDict(
            {
                name: nn.Linear(config.hidden_size, config.hidden_size)
                for name in ("query", "key", "value")
            }
        )
        self.output = nn.ModuleDict(
            {
                "dense": nn.Linear(config.hidden_size, config.hidden_size),
                "LayerNorm": nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps),
            }
        )

    def forward(self, hidden: Tensor, runs: Sequence[tuple[int, int]], bias: Bias) -> Tensor:
        query, key, value = (self.self[name](hidden) for name in ("query", "key", "value"))
        context = torch.empty_like(query)
        for rows, length, count in spans(runs):
            shape = (count, length, self.heads, -1)
            q, k, v = (t[rows].view(shape).transpose(1, 2) for t in (query, key, value))
            context[rows] = attend(q, k, v, bias).transpose(1, 2).reshape(length * count, -1)
        normed: Tensor = self.output["LayerNorm"](hidden + self.output["dense"](context))
        return normed


class _GatedLayer(_Layer):
    """Its units give activation(first half) * second half: the activation is on the FIRST half."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__(config)
        self.activation = F.gelu if config.feed_forward_type == "geglu" else F.relu
        self.mlp = _GatedFeedForward(config)

    def units(self, hidden: Tensor) -> Tensor:
        gate, value = self.mlp.gated_layers(hidden).chunk(2, dim=-1)
        given: Tensor = self.activation(gate) * value
        return given

    @property
    def out(self) -> nn.Linear:
        return self.mlp.wo

    @property
    def norm(self) -> nn.LayerNorm:
        return self.mlp.layernorm


class _GatedFeedForward(nn.Module):
    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__()
        self.gated_layers = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.wo = nn.Linear(config.intermediate_size, config.hidden_size)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class _PlainLayer(_Layer):
    """With BERT's own feed-forward, and its names."""

    def __init__(self, config: JinaBertConfig) -> None:
        super().__init__(config)
        self.intermediate = _Dense(config.hidden_size, config.intermediate_size)
        self.output = _DenseAndNorm(config.intermediate_size, config)

    def units(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.intermediate.dense(hidden))

    @property
    def out(self) -> nn.Linear:
        return self.output.dense

    @property
    def norm(self) -> nn.LayerNorm:
        return self.output.LayerNorm


class _Dense(nn.Module):
    def __init__(self, given: int, wanted: int) -> None:
        super().__init__()
        self.dense = nn.Linear(given, wanted)


class _DenseAndNorm(_Dense):
    def __init__(self, given: int, config: JinaBertConfig) -> None:
        super().__init__(given, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
