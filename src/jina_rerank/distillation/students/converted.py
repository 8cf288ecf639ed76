"""Conversion of a BERT encoder to a JinaBERT reranker, to initialize a student with its weights.

Everything but the position embeddings and the feed-forward has a counterpart of the same shape.
A gated feed-forward represents a plain one exactly, see `gated_from_plain`. Of the position
embeddings only the mean is kept, as part of the token type embeddings. ALiBi replaces them, and
training has to adapt the model to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator
from tokenizers import Tokenizer
from torch import Tensor

from ...encoders import JinaBert, JinaBertConfig
from ...encoders.alibi import Slopes
from ...errors import InputError, ModelLoadError
from ..settings import Count, Numbers, Seed, naming, refuse
from ..training.matching import EncoderMatching, MatchingSettings
from ..training.reference import ReferenceEncoder
from .bert import BertEncoder, built, converting, encoder_files, read_tokenizer
from .student import Material, Stage, StudentSettings, room_of

SUM = 40.0
"""Minimum magnitude of the sum of a norm's bias over its gain. With it, rounding the norm's output
to bf16 changes the constant 1 that is made of it by less than bf16's precision."""


def _check_rising(layers: tuple[int, ...]) -> tuple[int, ...]:
    if not layers or not all(a < b for a, b in pairwise((-1, *layers))):
        raise refuse(f"must rise from 0 or more, not {list(layers)}; say [0, 2]")
    return layers


class ConvertedStudent(StudentSettings):
    """A BERT encoder with a random classifier, to be trained; see `convert_bert`.

    Attributes:
        convert: The encoder's folder.
        layers: Numbers of the encoder's layers to keep, counted from 0; None for all.
        intermediate_size: Number of units of each feed-forward to keep; None for all.
        matching: Settings of a stage of encoder matching before ranking; None for no such stage.
        seed: Seed of the classifier, and of the texts of encoder matching.
    """

    convert: str
    layers: Annotated[Numbers, AfterValidator(_check_rising)] | None = None
    intermediate_size: Count | None = None
    matching: MatchingSettings | None = None
    seed: Seed = 0

    def check(self) -> int:
        """See `Student`."""
        model, tokenizer = self._converted()
        return room_of(model.config.max_position_embeddings, tokenizer)

    def build(self, examples: Sequence[tuple[str, str]]) -> tuple[JinaBert, Tokenizer]:
        """See `Student`."""
        return self._converted()

    def stages(self, material: Material) -> Sequence[Stage]:
        """See `Student`. Encoder matching on plain passages, if it has settings."""
        if self.matching is None:
            return ()
        reference = ReferenceEncoder(
            Path(self.convert).expanduser(),
            layers=self.layers,
            dtype=material.dtype,
            device=material.device,
        )
        objective = EncoderMatching(
            reference,
            Tokenizer.from_str(material.tokenizer.to_str()),
            material.passages,
            tokens_per_step=self.matching.tokens_per_step,
            seed=self.seed,
            device=material.device,
        )
        return (Stage("matching", objective, self.matching.training(material.dtype)),)

    def _files(self) -> list[Path]:
        return encoder_files(Path(self.convert).expanduser())

    def _converted(self) -> tuple[JinaBert, Tokenizer]:
        given = [name for name in ("layers", "intermediate_size") if getattr(self, name)]
        with naming(", ".join(f"student.{name}" for name in ("convert", *given))):
            return convert_bert(
                Path(self.convert).expanduser(),
                layers=self.layers,
                intermediate_size=self.intermediate_size,
                seed=self.seed,
            )


def convert_bert(
    source: Path,
    *,
    slopes: Slopes = "reranker",
    layers: Sequence[int] | None = None,
    intermediate_size: int | None = None,
    seed: int = 0,
) -> tuple[JinaBert, Tokenizer]:
    """Convert a BERT encoder to a reranker, to be trained.

    The pooler is the encoder's if it has one, otherwise the identity; the classifier is small and
    random.

    Args:
        source: A folder with `config.json`, weights, and `tokenizer.json` or `vocab.txt`.
        slopes: Kind of ALiBi slopes of the reranker, see `alibi_slopes`.
        layers: Numbers of the encoder's layers to keep, counted from 0, in this order; None for
            all.
        intermediate_size: Number of units of each feed-forward to keep, those with the largest
            weights; None for all.
        seed: Seed of the classifier.

    Returns:
        The model, float32, on the CPU, in training mode; and the tokenizer, with token types 0 for
        the query and 1 for the document, neither padding nor truncating.

    Raises:
        ModelLoadError: The folder does not hold a BERT encoder, the encoder lacks one of `layers`
            or has too few units, or its feed-forward is neither erf GELU nor ReLU.
    """
    bert = BertEncoder.read(source)
    config = bert.reranker(slopes, intermediate_size)
    there = config.num_hidden_layers
    chosen = list(range(there)) if layers is None else list(layers)
    if not chosen or not set(chosen) <= set(range(there)):
        raise ModelLoadError(f"{source}: has {there} layers, not {chosen}")
    config = replace(config, num_hidden_layers=len(chosen))
    with converting(source):
        model = built(config, _convert(bert.weights, chosen, config, seed))
    return model, read_tokenizer(source)


@dataclass(frozen=True, slots=True)
class GatedWeights:
    """A plain feed-forward in gated form.

    Attributes:
        gated_layers: Shape (2 * intermediate, hidden).
        norm_bias: The bias that the layer norm in front must have, shape (hidden,).
        residual: The vector that this bias adds to every output of the norm, shape (hidden,). It
            must be subtracted from the output bias, since the residual connection carries it there.
    """

    gated_layers: Tensor
    norm_bias: Tensor
    residual: Tensor


def gated_from_plain(
    weight: Tensor, bias: Tensor, norm_gain: Tensor, norm_bias: Tensor
) -> GatedWeights:
    """Compute the gated form, without biases, of `activation(W x + c)` for x from a layer norm.

    A gated feed-forward computes `activation(G x) * (V x)` with no bias. So both the constant 1,
    for every row of `V x`, and the bias c must be linear in x. They are: the norm's output is
    `x = g * n + b` with gain g, bias b, and n whose elements sum to zero. For

        w = (1 / g) / s,  s = sum(b / g)

    it follows that `w . x = (sum(n) + sum(b / g)) / s = 1` whatever n is. Every row of V is
    therefore w, and `G = W + c w^T`.

    If s is near zero, w would be huge and rounding errors would show. Then the norm's bias becomes
    `b + d g`, which adds d to each element of `b / g` and so `hidden * d` to s; d is chosen to
    bring s to 40 in magnitude. This adds `d g` to every x, which is subtracted where x is read:
    `W (d g)` from c here, and `d g` from the output's bias by the caller (`residual`).

    Args:
        weight: W, shape (intermediate, hidden).
        bias: c, shape (intermediate,).
        norm_gain: g of the layer norm in front, shape (hidden,), no element zero.
        norm_bias: b, shape (hidden,).

    Returns:
        The gated form, computed in float64 and returned in the dtype of `weight`.

    Raises:
        InputError: An element of the gain is zero.
    """
    if not bool(norm_gain.all()):
        raise InputError("norm_gain", "has a zero: what it multiplies cannot be had back")
    w_in, c, gain, shift = (t.double() for t in (weight, bias, norm_gain, norm_bias))
    total = (shift / gain).sum()
    wanted = torch.copysign(total.abs().clamp_min(SUM), total)
    residual = (wanted - total) / len(gain) * gain
    one = 1 / gain / wanted
    gate = w_in + torch.outer(c - w_in @ residual, one)
    return GatedWeights(
        gated_layers=torch.cat([gate, one.expand_as(gate)]).to(weight.dtype),
        norm_bias=(shift + residual).to(weight.dtype),
        residual=residual.to(weight.dtype),
    )


def _convert(
    bert: Mapping[str, Tensor], layers: Sequence[int], config: JinaBertConfig, seed: int
) -> dict[str, Tensor]:
    """Build JinaBERT's state dict."""
    hidden = config.hidden_size
    state = _embeddings(bert)
    for to, layer in enumerate(layers):
        source = _narrowed(bert, f"encoder.layer.{layer}", config.intermediate_size)
        state |= _layer(source, f"encoder.layer.{layer}", f"bert.encoder.layer.{to}")
    pooler = "pooler.dense"
    has_pooler = f"{pooler}.weight" in bert
    state[f"bert.{pooler}.weight"] = bert[f"{pooler}.weight"] if has_pooler else torch.eye(hidden)
    state[f"bert.{pooler}.bias"] = bert[f"{pooler}.bias"] if has_pooler else torch.zeros(hidden)
    generator = torch.Generator().manual_seed(seed)
    state["classifier.weight"] = torch.empty(1, hidden).normal_(0, 0.02, generator=generator)
    state["classifier.bias"] = torch.zeros(1)
    return state


def _narrowed(bert: Mapping[str, Tensor], layer: str, units: int) -> Mapping[str, Tensor]:
    """Keep the units of a layer's feed-forward with the largest weights, input times output norm.

    With 768 of all-MiniLM-L6-v2's 1,536 units a layer chosen this way, the output has four fifths
    of its variance or more before any training; chosen by their effect on texts, seven eighths.
    """
    into, out = f"{layer}.intermediate.dense", f"{layer}.output.dense.weight"
    size = bert[f"{into}.weight"].norm(dim=1) * bert[out].norm(dim=0)
    # In ascending order, so that nothing changes if all units are kept.
    kept = size.argsort(descending=True)[:units].sort().values
    return {
        **bert,
        f"{into}.weight": bert[f"{into}.weight"][kept],
        f"{into}.bias": bert[f"{into}.bias"][kept],
        out: bert[out][:, kept],
    }


def _embeddings(bert: Mapping[str, Tensor]) -> dict[str, Tensor]:
    name = "embeddings"
    everywhere = bert[f"{name}.position_embeddings.weight"].mean(dim=0)
    return {
        f"bert.{name}.word_embeddings.weight": bert[f"{name}.word_embeddings.weight"],
        f"bert.{name}.token_type_embeddings.weight": bert[f"{name}.token_type_embeddings.weight"]
        + everywhere,
        f"bert.{name}.LayerNorm.weight": bert[f"{name}.LayerNorm.weight"],
        f"bert.{name}.LayerNorm.bias": bert[f"{name}.LayerNorm.bias"],
    }


def _layer(bert: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    norm = "attention.output.LayerNorm"
    same = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
    )
    state = {
        f"{target}.{part}.{kind}": bert[f"{source}.{part}.{kind}"]
        for part in same
        for kind in ("weight", "bias")
    }
    gated = gated_from_plain(
        bert[f"{source}.intermediate.dense.weight"],
        bert[f"{source}.intermediate.dense.bias"],
        bert[f"{source}.{norm}.weight"],
        bert[f"{source}.{norm}.bias"],
    )
    return state | {
        f"{target}.{norm}.weight": bert[f"{source}.{norm}.weight"],
        f"{target}.{norm}.bias": gated.norm_bias,
        f"{target}.mlp.gated_layers.weight": gated.gated_layers,
        f"{target}.mlp.wo.weight": bert[f"{source}.output.dense.weight"],
        f"{target}.mlp.wo.bias": bert[f"{source}.output.dense.bias"] - gated.residual,
        f"{target}.mlp.layernorm.weight": bert[f"{source}.output.LayerNorm.weight"],
        f"{target}.mlp.layernorm.bias": bert[f"{source}.output.LayerNorm.bias"],
    }
