"""Least squares: fit a student's layers to the hidden states of its encoder.

ALiBi, the channels and the removed units change the output of a layer, and with it the input of the
layers above. The layers are therefore fitted one by one, from the first to the last. In each layer,
least squares fit two linear maps: the attention's output projection and the feed-forward's output
projection. Their inputs are the student's own, computed with the layers below already fitted; their
targets are the encoder's hidden states at the same place. No gradient is needed. Training has to
correct only those errors that no linear map can.

A layer norm follows each linear map. It subtracts the token's mean and divides by its standard
deviation. As long as a token's mean and deviation stay about the same, the target in front of the
norm can be computed from the target behind it.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ....encoders import EncoderModel
from ....encoders.bias import Bias
from ....encoders.layer import Layer
from ....encoders.tokenizer import TokenPair
from ...training.forward import TrainingBatch, attended, attention_biases, bias_of, embedded
from ...training.reference import ReferenceEncoder
from .matching import SeparateTexts, means_of
from .pruning import pruned_least_squares

CUTS = (24, 64, 128, 200, 300, 448)
"""Lengths in tokens to which passages are truncated: several, so that the fit suits all lengths."""

QUERY_TOKENS = 64
"""Length in tokens to which queries are truncated."""

PAIRS = 24
"""Number of pairs in a batch."""

QUERIES_COUNT = 4.0
"""Weight of a token of a query, and of [CLS]; a passage's token has weight 1. There are as many
queries as passages, but queries are short."""

MEANS_COUNT = 0.3
"""Weight of the mean over a text, relative to its tokens; the scoring layer compares these means.
With a weight of 1 and 500 pairs the means of other texts became worse."""

RIDGE = 1e-3
"""Ridge penalty on changes of the weights, as a fraction of the inputs' mean square."""

FAINT = 0.1
"""Smallest gain of a norm, as a fraction of the median gain, for which an element is fitted. With a
smaller gain the norm hides the element, so its present value is the target."""

Rows = Sequence[Tensor]
"""One tensor per batch, shape (rows, columns)."""


@torch.no_grad()
def fit_layers(
    model: EncoderModel,
    tokenizer: Tokenizer,
    reference: ReferenceEncoder,
    examples: Sequence[tuple[str, str]],
    *,
    units: int | None = None,
    seed: int = 0,
) -> None:
    """Fit the layers of a student to its encoder.

    It takes four minutes on two cores for six layers and 1,500 pairs.

    Args:
        model: The student, with layers as `encoder_layers` makes them. Changed in place; layers
            above those of the encoder are not changed.
        tokenizer: The model's tokenizer.
        reference: The encoder, on the model's device.
        examples: Queries and passages.
        units: Number of units to keep in each feed-forward; None for all.
        seed: Seed of the lengths to which passages are truncated.
    """
    pairs = _pairs(tokenizer, examples, reference.longest, seed)
    batches = [
        _Batch.read(model, reference, pairs[start : start + PAIRS])
        for start in range(0, len(pairs), PAIRS)
    ]
    layers, bias = model.bert.encoder.layers[: len(reference.layers)], bias_of(model, 0)
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
    """Tokenize pairs as the student reads them, and sort them by length."""
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
    """A batch of pairs with the encoder's hidden states.

    Attributes:
        batch: The pairs.
        separate: The texts of the pairs.
        hidden: Output of the student's layer below, shape (rows, the student's hidden size).
        wanted: The encoder's hidden states behind each half of a layer, shape (rows, hidden). In
            bfloat16 to save memory: the error of the fit is far larger than the rounding.
        special: Mask of the rows that hold a token without a counterpart, see `SeparateTexts`;
            False for padding.
        remembered: The student's initial hidden states of the special rows behind each half of a
            layer, which are the targets of these rows.
    """

    batch: TrainingBatch
    separate: SeparateTexts
    hidden: Tensor
    wanted: Sequence[Tensor]
    special: Tensor
    remembered: list[Tensor] = field(default_factory=list)

    @classmethod
    def read(
        cls, model: EncoderModel, reference: ReferenceEncoder, pairs: Sequence[TokenPair]
    ) -> _Batch:
        device = model.classifier.weight.device
        batch = TrainingBatch.of(pairs, device)
        rows = len(batch.input_ids)
        separate = SeparateTexts.of(pairs, rows, reference.longest, device)
        assert separate is not None  # examples are no blanks
        hidden = embedded(model, batch)
        special = separate.sides.sum(0) == 0
        special[batch.tokens :] = False
        wanted = [
            half[separate.counterparts].bfloat16()
            for layer in reference.half_layer_states(separate.batch)
            for half in layer
        ]
        return cls(batch, separate, hidden, wanted, special)

    def remember(self, layers: Sequence[Layer], bias: Bias) -> None:
        below = self.hidden
        for layer in layers:
            context = self.attended(layer, bias)
            inner = layer.normed_attention(layer.attention_out(context, self.hidden))
            self.hidden = layer.feed_forward(inner)
            self.remembered += [inner[self.special], self.hidden[self.special]]
        self.hidden = below

    def attended(self, layer: Layer, bias: Bias) -> Tensor:
        # Not stored: the biases are large, and quick to compute.
        biases = attention_biases(bias, self.batch, self.hidden.dtype)
        return attended(layer, self.batch, biases, self.hidden)


@dataclass(frozen=True)
class _Product:
    """A linear map to be fitted, with its inputs and the norm behind it.

    Attributes:
        half: Index of its target in `wanted`.
        linear: The linear map.
        norm: The layer norm behind it.
        inputs: Inputs of the linear map.
        residuals: The residual connection, added in front of the norm.
    """

    half: int
    linear: nn.Linear
    norm: nn.LayerNorm
    inputs: Rows
    residuals: Rows


def _fit(batches: Sequence[_Batch], product: _Product, *, keep: int | None = None) -> Tensor:
    """Fit the encoder's output elements of a linear map, in place.

    Inputs whose weights to these elements are all zero are not used: those of a new head, which
    sees both texts.

    Args:
        batches: The batches of pairs.
        product: The linear map.
        keep: Number of inputs to keep; None for all. The weights of the others become zero.

    Returns:
        Indices of the inputs that are kept, shape (keep,).
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
        # The norm divides an error by the deviation, so rows are weighted by its inverse.
        left = torch.cat([given[:, used], given.new_ones(len(given), 1)], dim=1) / deviation
        right = (target - residual[:, :hidden]) / deviation
        queries, passages = batch.separate.sides
        count(left, right, QUERIES_COUNT * (queries + batch.special) + passages)
        texts = len(batch.separate.texts)
        per_text = MEANS_COUNT * batch.separate.sides.sum() / texts
        count(
            means_of(left, batch.separate), means_of(right, batch.separate), per_text.expand(texts)
        )
    now = torch.cat([linear.weight[:hidden, used], linear.bias[:hidden, None]], dim=1).double()
    staying = RIDGE * products.diagonal().mean()
    products.diagonal().add_(staying)
    kept, fitted = pruned_least_squares(products, sums + staying * now.T, gain.double(), keep)
    kept = used[kept]
    linear.weight[:hidden] = 0.0
    linear.weight[:hidden, kept] = fitted[:-1].T.to(linear.weight.dtype)
    linear.bias[:hidden] = fitted[-1].to(linear.bias.dtype)
    return kept


def _leave_out(layer: Layer, kept: Tensor) -> None:
    """Remove all but the kept units of a feed-forward, in place."""
    into, out = layer.into_units, layer.out
    into.weight, into.bias = nn.Parameter(into.weight[kept]), nn.Parameter(into.bias[kept])
    out.weight = nn.Parameter(out.weight[:, kept].clone())
