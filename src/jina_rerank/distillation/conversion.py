"""From a BERT encoder to a JinaBERT reranker: a student that need not begin at random.

Everything but the position embeddings and the feed-forward has a counterpart of the same shape.
A plain feed-forward is held by a gated one exactly, see `gated_from_plain`. Of the position
embeddings only their mean is kept, as part of the token type embeddings: attention's linear biases
tell what is near instead, and training has to teach the model to live with them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from torch import Tensor

from ..encoders import JinaBert, JinaBertConfig
from ..encoders.alibi import Slopes
from ..encoders.checkpoint import read_tensors
from ..encoders.families.jinabert import FeedForward
from ..encoders.files import find_checkpoint
from ..encoders.tokenizer import open_tokenizer
from ..errors import InputError, ModelLoadError

SUM = 40.0
"""The least sum of a norm's bias over its gain, so that rounding its output to bf16
changes the constant that is made of it by less than bf16 can tell."""

GATES: dict[str, FeedForward] = {"gelu": "geglu", "relu": "reglu"}


@dataclass(frozen=True, slots=True)
class BertEncoder:
    """A BERT encoder as it lies in a folder.

    Attributes:
        folder: Where.
        config: Fields of its config.json.
        weights: By transformers' names, without a prefix; float32.
    """

    folder: Path
    config: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read `config.json` and weights.

        Raises:
            ModelLoadError: The folder does not hold a BERT encoder, or its feed-forward is neither
                erf GELU nor ReLU.
        """
        files = find_checkpoint(folder, tokenizer=False)
        weights = {
            # Copies: what safetensors gives is a view of the file.
            _modern(name): tensor.to(torch.float32, copy=True)
            for path in files.weights
            for name, tensor in read_tensors(path).items()
        }
        return cls(folder, _read_config(files.config), weights)

    def reranker(
        self,
        slopes: Slopes,
        units: int | None,
        *,
        wider: int = 0,
        feed_forward: FeedForward | None = None,
    ) -> JinaBertConfig:
        """The shape of a reranker with its weights.

        Args:
            slopes: See `convert_bert`.
            units: Units of each feed-forward; None for all.
            wider: By how many heads, which then look for themselves, see `widening`.
            feed_forward: Kind of feed-forward; None for a gated one with the encoder's activation.

        Raises:
            ModelLoadError: There are fewer units, or `config.json` lacks a field.
        """
        given = self.config
        try:
            there = int(given["intermediate_size"])
            heads, hidden = int(given["num_attention_heads"]), int(given["hidden_size"])
            config = JinaBertConfig(
                vocab_size=given["vocab_size"],
                hidden_size=hidden + wider * (hidden // heads),
                num_hidden_layers=given["num_hidden_layers"],
                num_attention_heads=heads + wider,
                intermediate_size=units or there,
                type_vocab_size=given.get("type_vocab_size", 2),
                layer_norm_eps=given.get("layer_norm_eps", 1e-12),
                feed_forward_type=feed_forward or GATES[given["hidden_act"]],
                alibi_slopes=slopes,
            )
        except (KeyError, ValueError, TypeError) as error:
            raise ModelLoadError(
                f"{self.folder}: not a BERT encoder's config: {error!r}"
            ) from error
        if config.intermediate_size > there:
            raise ModelLoadError(
                f"{self.folder}: its feed-forward has {there} units, fewer than {units}"
            )
        return config


def convert_bert(
    source: Path,
    *,
    slopes: Slopes = "reranker",
    layers: Sequence[int] | None = None,
    intermediate_size: int | None = None,
    seed: int = 0,
) -> tuple[JinaBert, Tokenizer]:
    """A reranker with the weights of a BERT encoder, to be trained.

    The pooler is the encoder's where it has one, otherwise the identity; the classifier is small
    and random.

    Args:
        source: A folder with `config.json`, weights, and `tokenizer.json` or `vocab.txt`.
        slopes: Which ALiBi slopes the reranker is to have, see `alibi_slopes`.
        layers: Which of the encoder's layers to keep, counted from 0, in this order; None for all.
        intermediate_size: How many units of each feed-forward to keep, those with the largest
            weights; None for all.
        seed: Seed of the classifier.

    Returns:
        The model, float32, on the CPU, in training mode; and the tokenizer, with token types 0 for
        the query and 1 for the document, neither padding nor truncating.

    Raises:
        ModelLoadError: The folder does not hold a BERT encoder, a layer or so many units are not
            there, or the feed-forward is neither erf GELU nor ReLU.
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


@contextmanager
def converting(source: Path) -> Iterator[None]:
    """Name the folder in errors about what it lacks or has too much of."""
    try:
        yield
    except KeyError as error:
        raise ModelLoadError(f"{source}: not a BERT encoder: lacks {error}") from None
    except RuntimeError as error:
        raise ModelLoadError(f"{source}: not a BERT encoder: {error}") from error
    except InputError as error:
        raise ModelLoadError(f"{source}: {error}") from error


def built(config: JinaBertConfig, state: Mapping[str, Tensor]) -> JinaBert:
    """A model with these weights."""
    with torch.device("meta"):
        model = JinaBert(config)
    model.load_state_dict(state, strict=True, assign=True)
    return model


@dataclass(frozen=True, slots=True)
class GatedWeights:
    """A plain feed-forward in gated form.

    Attributes:
        gated_layers: Shape (2 * intermediate, hidden).
        norm_bias: The bias that the layer norm in front must have, shape (hidden,).
        residual: What that added to every vector behind the norm, shape (hidden,): the output bias
            must be less by it, since the residual connection carries it there too.
    """

    gated_layers: Tensor
    norm_bias: Tensor
    residual: Tensor


def gated_from_plain(
    weight: Tensor, bias: Tensor, norm_gain: Tensor, norm_bias: Tensor
) -> GatedWeights:
    """The gated form, without biases, of `activation(W x + c)` where x comes from a layer norm.

    A gated feed-forward computes `activation(G x) * (V x)` with no bias, so it needs both the
    constant 1, for every row of `V x`, and the bias c to be linear in x. They are: the norm gives
    `x = g * n + b` with gain g, bias b, and n whose elements sum to zero. For

        w = (1 / g) / s,  s = sum(b / g)

    it follows that `w . x = (sum(n) + sum(b / g)) / s = 1` whatever n is. Every row of V is
    therefore w, and `G = W + c w^T`.

    Where s is near zero w would be huge and rounding would be seen. Then the norm's bias becomes
    `b + d g`, which adds d to each element of `b / g` and so `hidden * d` to s; d is chosen to
    bring s to 40 in magnitude. This adds `d g` to every x, which is taken back where x is read:
    c loses `W (d g)` here, and the output's bias must lose `d g` (`residual`).

    Args:
        weight: W, shape (intermediate, hidden).
        bias: c, shape (intermediate,).
        norm_gain: g of the layer norm in front, shape (hidden,), no element zero.
        norm_bias: b, shape (hidden,).

    Returns:
        Computed in float64, in the dtype of `weight`.

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
    """JinaBERT's state dict."""
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
    """A layer with those units of the feed-forward whose weights, in times out, are largest.

    Of all-MiniLM-L6-v2's 1,536 units a layer these 768 give four fifths of the output's variance
    and more before any training; chosen by what they do on texts it would be seven eighths.
    """
    into, out = f"{layer}.intermediate.dense", f"{layer}.output.dense.weight"
    size = bert[f"{into}.weight"].norm(dim=1) * bert[out].norm(dim=0)
    # In their order, so that nothing changes where all are kept.
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


def _modern(name: str) -> str:
    """Without the prefix of models with a head, and without TensorFlow's names of a norm."""
    name = name.removeprefix("bert.")
    if name.endswith((".gamma", ".beta")):
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
    return name


def _read_config(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(given, dict):
        raise ModelLoadError(f"{path}: is not a JSON object")
    kind = given.get("model_type"), given.get("position_embedding_type", "absolute")
    if kind != ("bert", "absolute"):
        raise ModelLoadError(
            f"{path}: not a BERT encoder (model_type {kind[0]!r}, positions {kind[1]!r})"
        )
    if given.get("hidden_act") not in GATES:
        raise ModelLoadError(
            f"{path}: hidden_act must be one of {sorted(GATES)}, not {given.get('hidden_act')!r}"
        )
    return given


def read_tokenizer(folder: Path) -> Tokenizer:
    """The encoder's tokenizer, with token types 0 for the query and 1 for the document.

    Raises:
        ModelLoadError: There is none, or it lacks a special token.
    """
    whole, vocabulary = folder / "tokenizer.json", folder / "vocab.txt"
    if not whole.is_file() and not vocabulary.is_file():
        raise ModelLoadError(f"{folder}: has neither {whole.name} nor {vocabulary.name}")
    try:
        tokenizer = (
            open_tokenizer(whole)
            if whole.is_file()
            else _from_vocabulary(vocabulary, folder / "tokenizer_config.json")
        )
    except Exception as error:  # the Rust side raises nothing narrower
        raise ModelLoadError(f"{folder}: its tokenizer cannot be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    if None in (number for _, number in special):
        raise ModelLoadError(f"{folder}: the vocabulary lacks [CLS] or [SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=special,
    )
    return tokenizer


def _from_vocabulary(vocabulary: Path, config: Path) -> Tokenizer:
    options = json.loads(config.read_text(encoding="utf-8-sig")) if config.is_file() else {}
    ids = {
        # A byte order mark is no part of the first one.
        token.removeprefix("\ufeff") if number == 0 else token: number
        for token, number in WordPiece.read_file(str(vocabulary)).items()
    }
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=options.get("do_lower_case", True),
        strip_accents=options.get("strip_accents"),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    # One that the vocabulary lacks would get an id that the embedding has no row for.
    tokenizer.add_special_tokens([t for t in special if tokenizer.token_to_id(t) is not None])
    return tokenizer
