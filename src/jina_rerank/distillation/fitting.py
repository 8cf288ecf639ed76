"""A widened encoder's layers, fitted to what the encoder itself gives.

ALiBi, the channels and units that are left out change what a layer gives, and with it what those
above are given. So layer by layer, from below, the product behind the attention and the one behind
the feed-forward's units are fitted by least squares: to what the encoder gives there, on what the
layers below, fitted already, give here. No gradient is needed, and what is left to learn is what no
product can make up for.

A product stands in front of a layer norm. The norm takes each token's mean away and divides by its
deviation, so for a token whose mean and deviation stay about what they are it is known what the
product would have to give.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..encoders import JinaBert
from ..encoders.bias import Bias
from ..encoders.layer import Layer
from ..encoders.tokenizer import TokenPair
from .forward import TrainingBatch, attended, attention_biases, bias_of, embedded
from .imitation import Apart, Original, means_of
from .narrowing import narrowed

CUTS = (24, 64, 128, 200, 300, 448)
"""Tokens at which passages are cut. They are not to be fitted to one length."""

QUERY_TOKENS = 64
"""Where queries are cut."""

PAIRS = 24
"""Number of pairs that are read at a time."""

QUERIES_COUNT = 4.0
"""Weight of a query's token beside a passage's, and [CLS]: queries are short and as many."""

MEANS_COUNT = 0.3
"""Weight of the mean over a text beside its tokens, of which it takes the place in what
compares. At 1 and with 500 pairs the means of other texts became worse."""

RIDGE = 1e-3
"""Weight of leaving the weights as they are, as a part of the inputs' mean square."""

FAINT = 0.1
"""A norm's gain that is smaller, as a part of the median, hides what the product gives, and that
stays."""

Rows = Sequence[Tensor]
"""One of each batch, shape (rows, columns)."""


@torch.no_grad()
def fit_layers(
    model: JinaBert,
    tokenizer: Tokenizer,
    original: Original,
    examples: Sequence[tuple[str, str]],
    *,
    units: int | None = None,
    seed: int = 0,
) -> None:
    """Fit a widened encoder's layers to the encoder.

    It takes four minutes on two cores for six layers and 1,500 pairs.

    Args:
        model: A widened encoder, see `widened`; layers on top are left alone. Changed in place.
        tokenizer: Its own.
        original: The encoder, on the model's device.
        examples: Queries and passages.
        units: How many units each feed-forward keeps; None for all.
        seed: Seed of the places where passages are cut.
    """
    pairs = _pairs(tokenizer, examples, original.longest, seed)
    batches = [
        _Batch.read(model, original, pairs[start : start + PAIRS])
        for start in range(0, len(pairs), PAIRS)
    ]
    layers, bias = model.bert.encoder.layers[: len(original.layers)], bias_of(model, 0)
    for batch in batches:
        batch.remember(layers, bias)
    for number, layer in enumerate(layers):
        output = layer.attention.output
        dense, norm = output.dense, output.LayerNorm
        assert norm is not None  # only models whose norms come first lack one
        below = [batch.hidden for batch in batches]
        contexts = [batch.attended(layer, bias) for batch in batches]
        _fit(batches, _Product(2 * number, dense, norm, contexts, below))
        inner = [norm(rows + dense(context)) for rows, context in zip(below, contexts, strict=True)]
        given = [layer.units(rows) for rows in inner]
        kept = _fit(
            batches, _Product(2 * number + 1, layer.out, layer.norm, given, inner), keep=units
        )
        for batch, rows, one in zip(batches, inner, given, strict=True):
            batch.hidden = layer.norm(rows + layer.out(one))
        if units is not None:
            _leave_out(layer, kept)


def _pairs(
    tokenizer: Tokenizer, examples: Sequence[tuple[str, str]], longest: int, seed: int
) -> list[TokenPair]:
    """Pairs as the student reads them, of about equal length where they are neighbours."""
    chance = random.Random(seed)
    vocabulary = tokenizer.get_vocab()
    start, end = [vocabulary["[CLS]"]], [vocabulary["[SEP]"]]
    cuts = [min(cut, longest - 2) for cut in CUTS]
    pairs = []
    for texts in examples:
        query, passage = (
            encoded.ids[:cut]
            for encoded, cut in zip(
                tokenizer.encode_batch(list(texts), add_special_tokens=False),
                (min(QUERY_TOKENS, longest - 2), chance.choice(cuts)),
                strict=True,
            )
        )
        ids = [*start, *query, *end, *passage, *end]
        types = [0] * (len(query) + 2) + [1] * (len(passage) + 1)
        pairs.append(TokenPair(array("i", ids), array("i", types)))
    return sorted(pairs, key=len)


@dataclass
class _Batch:
    """Pairs that are read at a time.

    Attributes:
        batch: The pairs.
        apart: Their texts.
        hidden: What the student's layer below gives, shape (rows, its hidden).
        wanted: What the encoder gives behind each half of a layer, shape (rows, hidden), bfloat16:
            there are many, and what is missed is far above the rounding.
        special: Which rows hold tokens without a counterpart, as `Apart` says, and no padding.
        remembered: What the student gives these behind each half of a layer. They are to stay so.
    """

    batch: TrainingBatch
    apart: Apart
    hidden: Tensor
    wanted: Sequence[Tensor]
    special: Tensor
    remembered: list[Tensor] = field(default_factory=list)

    @classmethod
    def read(cls, model: JinaBert, original: Original, pairs: Sequence[TokenPair]) -> _Batch:
        device = model.classifier.weight.device
        batch = TrainingBatch.of(pairs, device)
        rows = len(batch.input_ids)
        apart = Apart.of(pairs, rows, original.longest, device)
        assert apart is not None  # examples are no blanks
        hidden = embedded(model, batch)
        special = apart.sides.sum(0) == 0
        special[batch.tokens :] = False
        wanted = [
            half[apart.counterparts].bfloat16()
            for halves in original.halves(apart.batch)
            for half in halves
        ]
        return cls(batch, apart, hidden, wanted, special)

    def remember(self, layers: Sequence[Layer], bias: Bias) -> None:
        below = self.hidden
        for layer in layers:
            context = self.attended(layer, bias)
            inner = layer.normed_attention(layer.attention_out(context, self.hidden))
            self.hidden = layer.feed_forward(inner)
            self.remembered += [inner[self.special], self.hidden[self.special]]
        self.hidden = below

    def attended(self, layer: Layer, bias: Bias) -> Tensor:
        # The biases are large, and made quickly.
        biases = attention_biases(bias, self.batch, self.hidden.dtype)
        return attended(layer, self.batch, biases, self.hidden)


@dataclass(frozen=True)
class _Product:
    """Something to fit, and its place.

    Attributes:
        half: Which of `wanted` it is to give.
        linear: The product.
        norm: The norm behind it.
        inputs: What is multiplied.
        residuals: What is added before the norm.
    """

    half: int
    linear: nn.Linear
    norm: nn.LayerNorm
    inputs: Rows
    residuals: Rows


def _fit(batches: Sequence[_Batch], product: _Product, *, keep: int | None = None) -> Tensor:
    """Fit the encoder's part of what a product gives, in place.

    Inputs of which nothing goes there are left alone: those of a new head, which sees both texts.

    Args:
        batches: What is read.
        product: See there.
        keep: How many inputs; None for all. Weights of others become zero.

    Returns:
        Which inputs are kept, shape (keep,).
    """
    half, linear, norm = product.half, product.linear, product.norm
    hidden = batches[0].wanted[half].shape[1]
    gain, bias = norm.weight[:hidden], norm.bias[:hidden]
    hides = gain.abs() < FAINT * gain.abs().median()
    present = [r + linear(x) for x, r in zip(product.inputs, product.residuals, strict=True)]
    used = linear.weight[:hidden].any(0).nonzero().squeeze(1)
    columns = len(used) + 1
    products = linear.weight.new_zeros(columns, columns, dtype=torch.float64)
    sums = linear.weight.new_zeros(columns, hidden, dtype=torch.float64)

    def count(left: Tensor, right: Tensor, weights: Tensor) -> None:
        weighted = (left * weights[:, None]).T
        products.add_((weighted @ left).double())
        sums.add_((weighted @ right).double())

    every = zip(batches, present, product.inputs, product.residuals, strict=True)
    for batch, rows, given, residual in every:
        mean = rows.mean(1, keepdim=True)
        deviation = (rows.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        wanted = batch.wanted[half].float()
        wanted[batch.special] = batch.remembered[half][:, :hidden]
        target = mean + deviation * (wanted - bias) / gain
        target[:, hides] = rows[:, :hidden][:, hides]
        # Behind the norm an error is divided by the deviation.
        left = torch.cat([given[:, used], given.new_ones(len(given), 1)], dim=1) / deviation
        right = (target - residual[:, :hidden]) / deviation
        queries, passages = batch.apart.sides
        count(left, right, QUERIES_COUNT * (queries + batch.special) + passages)
        texts = len(batch.apart.texts)
        per_text = MEANS_COUNT * batch.apart.sides.sum() / texts
        count(means_of(left, batch.apart), means_of(right, batch.apart), per_text.expand(texts))
    now = torch.cat([linear.weight[:hidden, used], linear.bias[:hidden, None]], dim=1).double()
    staying = RIDGE * products.diagonal().mean()
    products.diagonal().add_(staying)
    kept, fitted = narrowed(products, sums + staying * now.T, gain.double(), keep)
    kept = used[kept]
    linear.weight[:hidden] = 0.0
    linear.weight[:hidden, kept] = fitted[:-1].T.to(linear.weight.dtype)
    linear.bias[:hidden] = fitted[-1].to(linear.bias.dtype)
    return kept


def _leave_out(layer: Layer, kept: Tensor) -> None:
    """Keep some units of a feed-forward, in place."""
    into, out = layer.into_units, layer.out
    into.weight, into.bias = nn.Parameter(into.weight[kept]), nn.Parameter(into.bias[kept])
    out.weight = nn.Parameter(out.weight[:, kept].clone())
